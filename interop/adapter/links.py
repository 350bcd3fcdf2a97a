"""A row of the matrix (transport, secure channel, muxer) as addresses and flags of a daemon."""

from environment import Misuse

# What stands behind the address of the host.
LISTEN = {
    "tcp": "tcp/0",
    "ws": "tcp/0/ws",
    "wss": "tcp/0/tls/ws",
    "quic-v1": "udp/0/quic-v1",
    "webrtc-direct": "udp/0/webrtc-direct",
    "webtransport": "udp/0/quic-v1/webtransport",
}
# Secure and multiplexed by themselves.
STANDALONE = ("quic-v1", "webrtc-direct", "webtransport")
SECURITY = {"noise": ["-noise=true", "-tls=false"], "tls": ["-noise=false", "-tls=true"]}
MUXERS = ("yamux", "mplex")


class Link:
    """How two participants are to be connected."""

    def __init__(self, environment, among=tuple(LISTEN)):
        self.transport = environment.choice("TRANSPORT", "transport", among=among)
        self.flags = []
        channel = environment.text("SECURE_CHANNEL", "security", default="-")
        muxer = environment.text("MUXER", "muxer", default="-")
        if self.transport in STANDALONE:
            # Some runners name a secure channel even here; it has nothing to say.
            return
        if channel not in SECURITY:
            raise Misuse(self._wrong("SECURE_CHANNEL", "security", channel, SECURITY))
        if muxer not in MUXERS:
            raise Misuse(self._wrong("MUXER", "muxer", muxer, MUXERS))
        self.flags = [*SECURITY[channel], f"-muxer={muxer}"]

    def _wrong(self, name, legacy, value, known):
        if value == "-":
            return f"the environment lacks {name} or {legacy}, which {self.transport} needs"
        return f"{name}={value!r} is none of {', '.join(known)}"

    def listen(self, ip):
        version = "ip6" if ":" in ip else "ip4"
        return f"-hostAddrs=/{version}/{ip}/{LISTEN[self.transport]}"

    def names(self):
        """The protocols that tell an address of this transport from others."""
        return [word for word in LISTEN[self.transport].split("/") if word not in ("0", "tls")]
