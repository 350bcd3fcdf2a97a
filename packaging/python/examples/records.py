"""Records of the DHT: a value is put on one daemon and read on another."""

import anyio
import rp2pd

OPTIONS = dict(host_addrs="/ip4/127.0.0.1/tcp/0", dht_server=True, dht_namespace="colours")


async def main():
    async with rp2pd.Daemon(**OPTIONS) as alice, rp2pd.Daemon(**OPTIONS) as bob:
        await alice.connect(bob)
        await alice.dht.put_value("/colours/sky", b"blue")
        print((await bob.dht.get_value("/colours/sky")).decode())
        try:
            await bob.dht.get_value("/colours/sea", timeout=5)
        except rp2pd.NotFound as error:
            print(error)


anyio.run(main)
