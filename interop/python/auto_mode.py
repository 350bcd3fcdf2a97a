"""A DHT node in automatic mode serves once a stranger has dialed it back.

    unshare --net python auto_mode.py DAEMON AUTONAT_DAEMON

The second daemon offers AutoNAT and is taken for a stranger on the public network, so both get
public addresses, which lead nowhere: this runs in a network namespace of its own, the stranger in
another behind a virtual cable.
"""

import asyncio
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from multiaddr import Multiaddr
from p2pclient import Client

# The probe comes 15 s after the start.
PATIENCE = 60


@asynccontextmanager
async def daemon(program, directory, name, address, *flags):
    control = f"/unix{directory}/{name}.sock"
    process = subprocess.Popen(
        [*program, f"-listen={control}", f"-hostAddrs=/ip4/{address}/tcp/4001", *flags],
        stdout=subprocess.PIPE,
    )
    try:
        if not process.stdout.readline():
            raise SystemExit(f"{program} did not start")
        yield Client(Multiaddr(control), Multiaddr(f"/unix{directory}/{name}-streams.sock"))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


async def closest(client):
    try:
        return await client.dht.get_closest_peers(b"key")
    except Exception:
        # There is nobody in the table.
        return ()


@contextmanager
def far_namespace():
    """Words before a command that runs it at the other end of the cable."""
    # Holds the namespace until its input ends.
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()
        far = ["nsenter", f"--target={holder.pid}", "--net"]
        for prefix, command in (
            ([], f"ip link add near type veth peer name far netns {holder.pid}"),
            ([], "ip address add 5.6.7.1/24 dev near"),
            ([], "ip link set near up"),
            (far, "ip address add 5.6.7.2/24 dev far"),
            (far, "ip link set far up"),
        ):
            subprocess.run([*prefix, *command.split()], check=True)
        yield far
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


async def main(program, stranger):
    async with AsyncExitStack() as stack:
        far = stack.enter_context(far_namespace())
        directory = stack.enter_context(tempfile.TemporaryDirectory())

        async def start(binary, name, address, *flags):
            return await stack.enter_async_context(
                daemon(binary, directory, name, address, *flags)
            )

        public = await start(
            [*far, stranger], "public", "5.6.7.2", "-autonat=1", "-forceReachabilityPublic=1", "-dhtServer=1"
        )
        auto = await start([program], "auto", "5.6.7.1", "-dht=1")
        identity, addresses = await auto.control.identify()
        await auto.control.connect(*await public.control.identify())
        assert not await closest(public), "served before anybody dialed back"
        async with asyncio.timeout(PATIENCE):
            while identity not in await closest(public):
                await asyncio.sleep(0.1)
    print("serves")


asyncio.run(main(*sys.argv[1:]))
