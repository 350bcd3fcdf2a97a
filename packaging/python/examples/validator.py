"""Messages are judged before anybody gets them."""

import anyio
import rp2pd


async def main():
    async with rp2pd.Daemon(no_listen_addrs=True, pubsub=True) as node:

        def judge(message, peer):
            return message.data.startswith(b"news:")

        await node.pubsub.validate("news", judge)
        async with node.pubsub.subscribe("news") as messages:
            try:
                await node.pubsub.publish("news", b"buy this")
            except rp2pd.MessageRejected as error:
                print(error)
            await node.pubsub.publish("news", b"news: rain at noon")
            print((await messages.__anext__()).data.decode())


anyio.run(main)
