"""Errors have a type to branch on, and the daemon's own text."""

import anyio
import rp2pd

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    async with rp2pd.Daemon(host_addrs=LOCAL) as alice, rp2pd.Daemon(host_addrs=LOCAL) as bob:
        try:
            await alice.open_stream(bob.peer_id, "/nothing/1.0.0")
        except rp2pd.PeerUnreachable:
            await alice.connect(bob)
        try:
            await alice.open_stream(bob.peer_id, "/nothing/1.0.0")
        except rp2pd.ProtocolNotSupported as error:
            print(error)
        try:
            await alice.dht.get_value("/pk/x")
        except rp2pd.NotEnabled as error:
            print(error)


anyio.run(main)
