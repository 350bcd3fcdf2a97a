"""Two daemons, and a stream between them."""

import anyio
import rp2pd

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    async with rp2pd.Daemon(host_addrs=LOCAL) as alice, rp2pd.Daemon(host_addrs=LOCAL) as bob:

        @bob.handle("/shout/1.0.0")
        async def shout(stream):
            await stream.send((await stream.read_all()).upper())

        await bob.identify()
        await alice.connect(bob)
        async with await alice.open_stream(bob.peer_id, "/shout/1.0.0") as stream:
            await stream.send(b"hello from alice")
            await stream.send_eof()
            print((await stream.read_all()).decode())


anyio.run(main)
