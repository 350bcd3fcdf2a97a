"""Records that the program itself judges: the highest version of a name wins."""

import anyio
import rp2pd

OPTIONS = dict(host_addrs="/ip4/127.0.0.1/tcp/0", dht_server=True)


def version(value):
    return int(value.split(b" ", 1)[0])


def judge(key, value):
    return True if value.split(b" ", 1)[0].isdigit() else "a record begins with its version"


def newest(key, values):
    return max(range(len(values)), key=lambda index: version(values[index]))


async def main():
    async with rp2pd.Daemon(**OPTIONS) as alice, rp2pd.Daemon(**OPTIONS) as bob:
        for node in (alice, bob):
            await node.dht.validate("names", judge, newest)
        await alice.connect(bob)
        await alice.dht.put_value("/names/printer", b"1 first floor")
        await bob.dht.put_value("/names/printer", b"2 cellar")
        print((await alice.dht.get_value("/names/printer")).decode())
        for wrong in (b"somewhere", b"1 first floor"):
            try:
                await alice.dht.put_value("/names/printer", wrong)
            except rp2pd.DaemonError as error:
                print(error)


anyio.run(main)
