"""The DHT: one tells that it has something, the other finds out who has it."""

import anyio
import rp2pd

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    alice = rp2pd.Daemon(host_addrs=LOCAL, dht_server=True)
    bob = rp2pd.Daemon(host_addrs=LOCAL, dht_server=True)
    async with alice as alice, bob as bob:
        await bob.connect(alice)
        # Whoever connects has the other in its table, and can tell it.
        cid = rp2pd.cid_of(b"a file")
        await bob.dht.provide(cid)
        async with alice.dht.find_providers(cid, count=1) as found:
            async for provider in found:
                assert provider.id == bob.peer_id
                print("bob has", cid)


anyio.run(main)
