"""A py-libp2p node for the matrix on this machine:

    py_ping.py listen TRANSPORT SECURITY MUXER          prints its address, serves until it is ended
    py_ping.py dial TRANSPORT SECURITY MUXER ADDRESS    prints two numbers, in milliseconds: from
                                                        the dial to the first answer, one round trip
"""

import logging
import os
import sys
import time

import trio
from libp2p import create_mplex_muxer_option, create_yamux_muxer_option, new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.tls.transport import PROTOCOL_ID as TLS
from libp2p.security.tls.transport import TLSTransport
from multiaddr import Multiaddr

PING = TProtocol("/ipfs/ping/1.0.0")
SIZE = 32
LISTEN = {"tcp": "tcp/0", "ws": "tcp/0/ws", "quic-v1": "udp/0/quic-v1"}
MUXERS = {"yamux": create_yamux_muxer_option, "mplex": create_mplex_muxer_option}


def secured(name, keys):
    if name == "noise":
        static = create_noise_key_pair().private_key
        return {NOISE: NoiseTransport(libp2p_keypair=keys, noise_privkey=static, early_data=None)}
    return {TLS: TLSTransport(libp2p_keypair=keys, early_data=None, muxers=None)}


async def answer(stream):
    try:
        while data := await stream.read(SIZE):
            await stream.write(data)
    except Exception:
        # The library has many errors for the end of a stream.
        pass


async def main(job, transport, security, muxer, address=None):
    listen = [Multiaddr(f"/ip4/127.0.0.1/{LISTEN[transport]}")]
    keys = create_new_key_pair()
    given = {"key_pair": keys, "listen_addrs": listen}
    if transport == "quic-v1":
        given["enable_quic"] = True
    else:
        given["sec_opt"] = secured(security, keys)
        given["muxer_opt"] = MUXERS[muxer]()
    host = new_host(**given)
    host.set_stream_handler(PING, answer)
    # The library takes its transports from the addresses it listens on, a dialer's too.
    async with host.run(listen_addrs=listen):
        if job == "listen":
            print(host.get_addrs()[0], flush=True)
            await trio.sleep_forever()
        target = info_from_p2p_addr(Multiaddr(address))
        with trio.fail_after(60):
            begin = time.monotonic()
            await host.connect(target)
            stream = await host.new_stream(target.peer_id, [PING])
            sent = os.urandom(SIZE)
            asked = time.monotonic()
            await stream.write(sent)
            got = b""
            while len(got) < SIZE:
                got += await stream.read(SIZE - len(got))
            end = time.monotonic()
        if got != sent:
            raise ValueError("other bytes came back")
        print((end - begin) * 1000, (end - asked) * 1000, flush=True)
        # The library's own end takes up to a minute.
        os._exit(0)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(main, *sys.argv[1:])
