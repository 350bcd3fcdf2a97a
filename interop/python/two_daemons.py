"""Two daemons on one machine: connect them, echo 100 MiB from one to the other and back.

    python two_daemons.py [DAEMON [MEBIBYTES]]

DAEMON is the program to start, `rp2pd` unless given. Needs `pip install p2pclient`.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from multiaddr import Multiaddr
from p2pclient import Client

PROTOCOL = "/example/echo/1.0.0"
CHUNK = 64 * 1024


@asynccontextmanager
async def daemon(program, directory, name):
    """A running daemon and the client that speaks to it."""
    control = f"/unix{directory}/{name}.sock"
    process = subprocess.Popen(
        [program, f"-listen={control}", "-hostAddrs=/ip4/127.0.0.1/tcp/0"],
        stdout=subprocess.PIPE,
    )
    try:
        # The banner comes when the daemon is ready; its end, when it could not start.
        if not process.stdout.readline():
            raise SystemExit(f"{program} did not start")
        # Inbound streams come back to this process on a socket of its own.
        listen = f"/unix{directory}/{name}-streams.sock"
        client = Client(Multiaddr(control), Multiaddr(listen))
        async with client.listen():
            yield client
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def echo(info, stream):
    """Sends back whatever comes."""
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def send(stream, size, digest):
    """Sends `size` random bytes."""
    block = os.urandom(CHUNK)
    while size > 0:
        chunk = block[:size]
        digest.update(chunk)
        await stream.send(chunk)
        size -= len(chunk)


async def receive(stream, size, digest):
    """Receives `size` bytes."""
    while size > 0:
        chunk = await stream.receive(min(size, CHUNK))
        digest.update(chunk)
        size -= len(chunk)


async def main(program="rp2pd", mebibytes="100"):
    size = int(mebibytes) * 1024 * 1024
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        alice = await stack.enter_async_context(daemon(program, directory, "alice"))
        bob = await stack.enter_async_context(daemon(program, directory, "bob"))

        bob_id, bob_addrs = await bob.identify()
        await bob.stream_handler(PROTOCOL, echo)
        await alice.connect(bob_id, bob_addrs)
        print("connected to", bob_id, "at", *bob_addrs)

        info, stream = await alice.stream_open(bob_id, (PROTOCOL,))
        sent, received = hashlib.sha256(), hashlib.sha256()
        start = anyio.current_time()
        async with stream, anyio.create_task_group() as tasks:
            tasks.start_soon(send, stream, size, sent)
            await receive(stream, size, received)
        seconds = anyio.current_time() - start
        if sent.digest() != received.digest():
            raise SystemExit("the echo differs from what was sent")
        print(f"{mebibytes} MiB echoed over {info.proto} in {seconds:.1f} s, checksums agree")


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
