"""The hole-punch matrix: two participants behind NATs meet at a relay and go on without it.

A third role, for a daemon that can be it: the relay itself, where RELAY_IP is set.
"""

import json
import subprocess
import time

from daemon import Daemon
from environment import Misuse
from failure import Deadline, Failure
from links import Link
from multiaddr import from_base58, split_peer
from ping import PROTOCOL, ping, report
from redis import Redis

# The matrix ends a test after 180 s; the reason has to be out before that.
TIMEOUT = 170
# The older matrix gives 60 s.
LEGACY_TIMEOUT = 55
LEGACY_PEER_KEY = "LISTEN_CLIENT_PEER_ID"
CIRCUIT = "/p2p-circuit"
# What tells a daemon that it is behind a NAT. Hole punching comes with -autonat: Go's fork has no
# flag of its own for it.
BEHIND_NAT = ("-forceReachabilityPrivate", "-autonat")


def run(environment, _words):
    if environment.has("MODE"):
        plan = LegacyPlan(environment)
    else:
        plan = Plan(environment)
    for words in plan.routes:
        route(*words)
    redis = Redis(plan.redis, plan.deadline)
    plan.role(environment, plan, redis)


class Plan:
    """What the environment asks for."""

    def __init__(self, environment):
        self.deadline = Deadline(environment.timeout(TIMEOUT))
        self.key = environment.text("TEST_KEY")
        link = Link(environment, among=("tcp", "quic-v1"))
        self.link, self.flags = link, link.flags
        self.redis = environment.redis()
        self.routes = []
        if environment.has("RELAY_IP") and not environment.has("IS_DIALER"):
            self.role, self.ip = relay, environment.text("RELAY_IP")
            sides = ("DIALER", "LISTENER")
            self._routes(environment, [(f"{one}_LAN_SUBNET", f"{one}_ROUTER_IP") for one in sides])
            return
        self.is_dialer = environment.flag("IS_DIALER")
        self.role = dial if self.is_dialer else listen
        self.ip = environment.text("DIALER_IP" if self.is_dialer else "LISTENER_IP", default="0.0.0.0")
        self._routes(environment, [("WAN_SUBNET", "WAN_ROUTER_IP")])

    def _routes(self, environment, names):
        """Both of a pair, or neither."""
        for subnet, router in names:
            if environment.has(subnet) or environment.has(router):
                self.routes.append((environment.text(subnet), environment.text(router)))

    def relay_address(self, redis):
        return redis.poll(f"{self.key}_relay_multiaddr")

    def publish_peer(self, redis, peer):
        redis.set(f"{self.key}_listener_peer_id", peer)

    def peer(self, redis):
        return redis.poll(f"{self.key}_listener_peer_id")

    def report(self, handshake, round_trip):
        report(handshake, round_trip)


class LegacyPlan(Plan):
    """The names of the older matrix, which has the muxer and the secure channel fixed."""

    def __init__(self, environment):
        mode = environment.choice("MODE", among=("listen", "dial"))
        self.carrier = environment.choice("TRANSPORT", among=("tcp", "quic"))
        self.deadline = Deadline(environment.timeout(LEGACY_TIMEOUT))
        self.redis = environment.redis()
        self.role = dial if mode == "dial" else listen
        name = {"tcp": "tcp", "quic": "quic-v1"}[self.carrier]
        variables = {"TRANSPORT": name, "SECURE_CHANNEL": "noise", "MUXER": "yamux"}
        self.link = Link(type(environment)(variables))
        self.flags, self.ip, self.routes = self.link.flags, "0.0.0.0", []

    def relay_address(self, redis):
        return redis.wait(f"RELAY_{self.carrier.upper()}_ADDRESS")

    def publish_peer(self, redis, peer):
        redis.push(LEGACY_PEER_KEY, peer)

    def peer(self, redis):
        return redis.wait(LEGACY_PEER_KEY)

    def report(self, _handshake, round_trip):
        print(json.dumps({"rtt_to_holepunched_peer_millis": round(round_trip)}), flush=True)


def route(subnet, router):
    words = ["ip", "route", "replace", subnet, "via", router]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"{' '.join(words)}: {error}") from None
    if done.returncode:
        raise Failure(f"{' '.join(words)}: {done.stderr.strip()}")


def relay(environment, plan, redis):
    flags = [*plan.flags, plan.link.listen(plan.ip), "-relay=true"]
    with Daemon(environment, plan.deadline, flags, ["-forceReachabilityPublic"]) as daemon:
        if not daemon.has("relayService"):
            raise Misuse(f"{daemon.program} cannot be a relay: it has no -relayService")
        address = daemon.address(plan.ip, *plan.link.names())
        redis.set(f"{plan.key}_relay_multiaddr", address)
        stay(daemon, plan.deadline, lambda: daemon.control.peers(), "nobody came to the relay")


def behind_nat(environment, plan, relay_address):
    """A daemon that knows this relay, and is connected to it."""
    address, peer = split_peer_of(relay_address, "the relay's address")
    flags = [*plan.flags, plan.link.listen(plan.ip), "-relay=true", "-autoRelay", "-dhtClient"]
    optional = [f"-trustedRelays={relay_address}", *BEHIND_NAT]
    daemon = Daemon(environment, plan.deadline, flags, optional)
    try:
        daemon.control.connect(peer, [address])
    except BaseException:
        daemon.stop()
        raise
    return daemon


def split_peer_of(text, what):
    try:
        return split_peer(text)
    except ValueError as error:
        raise Failure(f"{what}: {error}") from None


def listen(environment, plan, redis):
    with behind_nat(environment, plan, plan.relay_address(redis)) as daemon:

        def reserved():
            daemon.require_alive()
            _, addresses = daemon.control.identify()
            return any(CIRCUIT in one for one in addresses) or None

        plan.deadline.poll("no reservation at the relay", reserved)
        plan.publish_peer(redis, daemon.peer_text)
        relay_count = len(daemon.control.peers())

        def has_come():
            return len(daemon.control.peers()) > relay_count

        stay(daemon, plan.deadline, has_come, "no dialer came")


def dial(environment, plan, redis):
    relay_address = plan.relay_address(redis)
    with behind_nat(environment, plan, relay_address) as daemon:
        name = plan.peer(redis)
        try:
            peer = from_base58(name)
        except ValueError as error:
            raise Failure(f"the listener's peer id {name!r}: {error}") from None
        begin = time.monotonic()
        daemon.control.connect(peer, [relay_address + CIRCUIT])

        def direct():
            daemon.require_alive()
            addresses = daemon.control.peers().get(peer, [])
            return any(CIRCUIT not in one for one in addresses) or None

        plan.deadline.poll("no hole was punched: the connection is still relayed", direct, 0.02)
        with daemon.control.open(peer, PROTOCOL) as stream:
            if CIRCUIT in stream.address:
                raise Failure(f"the stream still goes through the relay: {stream.address}")
            first = ping(stream)
            handshake = (time.monotonic() - begin) * 1000
            plan.report(handshake, min(first, ping(stream)))


def stay(daemon, deadline, has_come, complaint):
    """Serves until the matrix ends this program; a failure if nobody used it by then."""
    came = False
    while not deadline.is_over():
        daemon.require_alive()
        came = came or bool(has_come())
        time.sleep(min(0.5, deadline.left()))
    if not came:
        raise Failure(f"{complaint} within {deadline.seconds:g} s")
