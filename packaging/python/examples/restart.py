"""The daemon is killed, and the program goes on: handlers and subscriptions are back."""

import os
import signal

import anyio
import rp2pd
from rp2pd import EventKind

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def main():
    daemon = rp2pd.Daemon(host_addrs=LOCAL, pubsub=True)
    async with daemon as alice, rp2pd.Daemon(host_addrs=LOCAL) as bob:

        async def hello(stream):
            await stream.send(b"hello")

        await alice.serve("/hello/1.0.0", hello)
        async with alice.events(EventKind.PEER_CONNECTED) as events, alice.pubsub.subscribe("chat") as messages:
            os.kill(daemon.pid, signal.SIGKILL)
            async for event in events:
                print(event.kind.value)
                if event.kind == EventKind.DAEMON_BACK:
                    break
            await bob.connect(alice)
            async with await bob.open_stream(alice.peer_id, "/hello/1.0.0") as stream:
                print((await stream.read_all()).decode())
            await alice.pubsub.publish("chat", b"still here")
            print((await messages.__anext__()).data.decode())


anyio.run(main)
