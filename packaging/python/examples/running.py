"""A daemon that runs already: by its control address. Here it is another program's."""

import sys

import anyio
import rp2pd


async def report(control):
    async with rp2pd.connect(control) as node:
        print("connected peers:", len(await node.peers()))
        print("version:", (await node.status())["version"])


async def main():
    if len(sys.argv) > 1:
        return await report(sys.argv[1])
    async with rp2pd.Daemon(no_listen_addrs=True) as node:
        await report(node.control)


anyio.run(main)
