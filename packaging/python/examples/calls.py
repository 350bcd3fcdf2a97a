"""Unary calls: one question, one answer, many at a time over one connection."""

import anyio
import rp2pd

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    async with rp2pd.Daemon(host_addrs=LOCAL) as alice, rp2pd.Daemon(host_addrs=LOCAL) as bob:

        @bob.answer("/square/1.0.0")
        async def square(peer, data):
            return str(int(data) ** 2).encode()

        await bob.identify()
        await alice.connect(bob)
        print((await alice.call(bob.peer_id, "/square/1.0.0", b"12")).decode())
        try:
            await alice.call(bob.peer_id, "/square/1.0.0", b"twelve")
        except rp2pd.CallFailed as error:
            print(error)


anyio.run(main)
