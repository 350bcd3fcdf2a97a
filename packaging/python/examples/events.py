"""What happens at a daemon, as it happens."""

import anyio
import rp2pd
from rp2pd import EventKind

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    async with rp2pd.Daemon(host_addrs=LOCAL) as alice, rp2pd.Daemon(host_addrs=LOCAL) as bob:
        wanted = EventKind.PEER_CONNECTED, EventKind.PEER_DISCONNECTED
        async with alice.events(*wanted) as events:
            await bob.connect(alice)
            event = await events.__anext__()
            assert event.peer == bob.peer_id and not event.connection.dialed
            print(event.kind.value)
            await bob.disconnect(alice.peer_id)
            async for event in events:
                print(event.kind.value, event.cause)
                break


anyio.run(main)
