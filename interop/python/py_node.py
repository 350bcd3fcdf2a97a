"""A py-libp2p node for the interop tests.

    py_node.py serve LISTEN NAME...   prints its address, echoes streams until stdin ends
    py_node.py dial TARGET NAME...    echoes 1 MiB through one stream of each name
    py_node.py answer TARGET TOPIC PROTOCOL...
                                      prints its address, answers the topic's first message
                                      with the reverse of it, once TARGET can get it

Addresses are multiaddrs; the printed one and TARGET end in /p2p/<peer id>. The router of `answer` speaks
these protocols, all of floodsub or all of gossipsub. NODE_KEY names a file with its key.
"""

import hashlib
import logging
import os
import sys
from contextlib import nullcontext

import trio
from libp2p import new_host
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.serialization import deserialize_private_key
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.floodsub import FloodSub
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service.context import background_trio_service
from multiaddr import Multiaddr

SIZE = 1 << 20
CHUNK = 16 << 10
PATIENCE = 60


def node(listen):
    """A host with the key of NODE_KEY, or a new one."""
    keys = None
    if path := os.environ.get("NODE_KEY"):
        with open(path, "rb") as file:
            key = deserialize_private_key(file.read())
        keys = KeyPair(key, key.get_public_key())
    return new_host(listen_addrs=[listen], key_pair=keys)


async def echo(stream):
    while chunk := await read(stream):
        await stream.write(chunk)
    await stream.close()


async def read(stream):
    """The next bytes; none at the end of the stream."""
    # Leaf modules of the library raise different errors for one and the same end.
    try:
        return await stream.read(CHUNK)
    except Exception as error:
        if "EOF" in type(error).__name__:
            return b""
        raise


async def serve(listen, names):
    host = node(listen)
    for name in names:
        host.set_stream_handler(TProtocol(name), echo)
    async with host.run(listen_addrs=[listen]):
        print(host.get_addrs()[0], flush=True)
        while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            pass


async def dial(target, names):
    # The library takes its transports from the addresses it is to listen on.
    transport = "/ws" if "ws" in [p.name for p in target.protocols()] else ""
    listen = Multiaddr(f"/ip4/127.0.0.1/tcp/0{transport}")
    if "quic-v1" in [p.name for p in target.protocols()]:
        listen = Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
    host = node(listen)
    async with host.run(listen_addrs=[listen]):
        info = info_from_p2p_addr(target)
        with trio.fail_after(PATIENCE):
            await host.connect(info)
            for name in names:
                await echoed(await host.new_stream(info.peer_id, [TProtocol(name)]))


async def answer(target, words):
    topic, *names = words
    protocols = [TProtocol(name) for name in names]
    has_mesh = not any(name.startswith("/floodsub/") for name in names)
    listen = Multiaddr("/ip4/127.0.0.1/tcp/0")
    host = node(listen)
    if has_mesh:
        router = GossipSub(protocols, degree=6, degree_low=5, degree_high=12)
        running = background_trio_service(router)
    else:
        router, running = FloodSub(protocols), nullcontext()
    pubsub = Pubsub(host, router, strict_signing=True)
    async with (
        host.run(listen_addrs=[listen]),
        background_trio_service(pubsub),
        running,
    ):
        await pubsub.wait_until_ready()
        print(host.get_addrs()[0], flush=True)
        subscription = await pubsub.subscribe(topic)
        info = info_from_p2p_addr(target)
        await host.connect(info)
        with trio.fail_after(PATIENCE):
            message = await subscription.get()
        # The message may have come before the mesh has anybody. The library sends an answer to the
        # mesh alone, on a stream of its own, and gossips about it only at its next heartbeat, which
        # is two minutes away.
        await pubsub.wait_for_peer(info.peer_id, PATIENCE)
        await pubsub.wait_for_subscription(info.peer_id, topic, PATIENCE)
        if has_mesh:
            await pubsub.wait_for_mesh(info.peer_id, topic, PATIENCE)
        await pubsub.publish(topic, message.data[::-1])
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)


async def echoed(stream):
    sent = os.urandom(SIZE)
    got = hashlib.sha256()

    async def send():
        for at in range(0, SIZE, CHUNK):
            await stream.write(sent[at : at + CHUNK])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        size = 0
        while size < SIZE:
            chunk = await read(stream)
            if not chunk:
                raise EOFError(f"the echo ended after {size} bytes")
            got.update(chunk)
            size += len(chunk)
    if got.digest() != hashlib.sha256(sent).digest():
        raise ValueError("the echo differs")
    await stream.close()


if __name__ == "__main__":
    # The library reports every closed connection as an error with its traceback.
    logging.disable(logging.CRITICAL)
    job, address, *names = sys.argv[1:]
    trio.run({"serve": serve, "dial": dial, "answer": answer}[job], Multiaddr(address), names)
