"""A daemon is changed while it runs: a listener, a limit, and a peer that is no longer wanted."""

import anyio
import rp2pd

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    async with rp2pd.Daemon(no_listen_addrs=True) as alice, rp2pd.Daemon(host_addrs=LOCAL) as bob:

        @alice.handle("/store/1.0.0")
        async def store(stream):
            await stream.send(b"%d bytes" % len(await stream.read_all()))

        await alice.listeners.add(LOCAL)
        await alice.limits.set(rp2pd.Limit(protocol="/store/1.0.0", receive=200_000))
        await bob.connect(alice)
        async with await bob.open_stream(alice.peer_id, "/store/1.0.0") as stream:
            await stream.send(bytes(100_000))
            await stream.send_eof()
            print((await stream.read_all()).decode())
        [traffic] = await alice.traffic(protocols=["/store/1.0.0"])
        print("received", traffic.received, "and waited" if traffic.waited else "at once")
        await alice.rules.block(bob.peer_id)
        try:
            await alice.connect(bob)
        except rp2pd.PermissionDenied as error:
            print(error)


anyio.run(main)
