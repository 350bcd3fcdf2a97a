"""Needs `pip install p2pclient` and two daemons with `-hostAddrs=/ip4/127.0.0.1/tcp/0`,
one with `-listen=/unix/tmp/alice.sock`, the other with `-listen=/unix/tmp/bob.sock`."""

import anyio
from multiaddr import Multiaddr
from p2pclient import Client


async def shout(info, stream):
    await stream.send((await stream.receive()).upper())
    await stream.aclose()


async def main():
    alice = Client(Multiaddr("/unix/tmp/alice.sock"), Multiaddr("/unix/tmp/alice-in.sock"))
    bob = Client(Multiaddr("/unix/tmp/bob.sock"), Multiaddr("/unix/tmp/bob-in.sock"))
    async with alice.listen(), bob.listen():
        await bob.stream_handler("/shout/1.0.0", shout)
        bob_id, bob_addrs = await bob.identify()
        await alice.connect(bob_id, bob_addrs)
        info, stream = await alice.stream_open(bob_id, ("/shout/1.0.0",))
        await stream.send(b"hello from alice")
        print((await stream.receive()).decode())


anyio.run(main)
