"""A topic: what one publishes, the other gets."""

import anyio
import rp2pd

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    alice = rp2pd.Daemon(host_addrs=LOCAL, pubsub=True)
    bob = rp2pd.Daemon(host_addrs=LOCAL, pubsub=True)
    async with alice as alice, bob as bob:
        async with bob.pubsub.subscribe("chat") as messages:
            await alice.connect(bob)
            await alice.pubsub.publish("chat", b"good morning")
            async for message in messages:
                assert message.author == alice.peer_id
                print(message.data.decode())
                break


anyio.run(main)
