"""py-libp2p and daemons meet at each other's rendezvous points.

    python rendezvous.py DAEMON

Prints `met` once two daemons have found each other at a point of py-libp2p, and a daemon and
py-libp2p have found each other at a daemon's.
"""

import subprocess
import sys
import tempfile
import time

import multiaddr
import trio
from libp2p import new_host
from libp2p.discovery.rendezvous.client import RendezvousClient
from libp2p.discovery.rendezvous.service import RendezvousService
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr

LISTEN = "/ip4/127.0.0.1/tcp/0"
NAMESPACE = "rendezvous"
PATIENCE = 60


class Daemon:
    def __init__(self, program, directory, name, *flags):
        self.path = f"{directory}/{name}.sock"
        self.process = subprocess.Popen(
            [program, f"-listen=/unix{self.path}", f"-hostAddrs={LISTEN}", *flags],
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = iter(self.process.stdout.readline, "")
        peer = next(line.split()[-1] for line in lines if line.startswith("Peer ID"))
        next(line for line in lines if line.startswith("Peer Addrs"))
        self.id = ID.from_string(peer)
        self.address = f"{next(lines).strip()}/p2p/{peer}"

    async def knows(self, peer):
        """Whether LIST_PEERS names the peer."""
        stream = await trio.open_unix_socket(self.path)
        async with stream:
            # Request: type 5 is LIST_PEERS.
            await stream.send_all(b"\x02\x08\x05")
            answer = await stream.receive_some(65536)
        return peer.to_bytes() in answer

    def end(self):
        self.process.terminate()
        self.process.wait()


async def until(what, *conditions):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if all([await condition() for condition in conditions]):
            return
        await trio.sleep(0.2)
    sys.exit(f"in vain: {what}")


async def at_a_point_of_python(program, directory):
    host = new_host()
    async with host.run(listen_addrs=[multiaddr.Multiaddr(LISTEN)]):
        service = RendezvousService(host)
        port = host.get_transport_addrs()[0].value_for_protocol("tcp")
        point = f"-rendezvous=/ip4/127.0.0.1/tcp/{port}/p2p/{host.get_id()}"
        daemons = [Daemon(program, directory, name, point) for name in ("one", "two")]
        try:
            one, two = daemons

            async def registered():
                known = service.registrations.get(NAMESPACE, {})
                return {one.id, two.id} <= set(known)

            await until("registered at py-libp2p", registered)
            await until("met", lambda: one.knows(two.id), lambda: two.knows(one.id))
        finally:
            for daemon in daemons:
                daemon.end()


async def at_a_point_of_a_daemon(program, directory):
    point = Daemon(program, directory, "point", "-rendezvousServer")
    daemons = [point]
    try:
        host = new_host()
        async with host.run(listen_addrs=[multiaddr.Multiaddr(LISTEN)]):
            await host.connect(info_from_p2p_addr(multiaddr.Multiaddr(point.address)))
            client = RendezvousClient(host, point.id)
            assert await client.register(NAMESPACE, 7200) == 7200
            daemon = Daemon(program, directory, "met", f"-rendezvous={point.address}")
            daemons.append(daemon)
            await until("py-libp2p is found", lambda: daemon.knows(host.get_id()))
            found, cookie = await client.discover(NAMESPACE)
            ids = {info.peer_id for info in found}
            assert ids == {daemon.id, host.get_id()}, ids
            addrs = next(info.addrs for info in found if info.peer_id == daemon.id)
            assert any(daemon.address.startswith(str(addr)) for addr in addrs), addrs
            more, _ = await client.discover(NAMESPACE, cookie=cookie)
            assert more == [], more
            await client.unregister(NAMESPACE)

            async def gone():
                left, _ = await client.discover(NAMESPACE)
                return {info.peer_id for info in left} == {daemon.id}

            await until("unregistered", gone)
    finally:
        for daemon in daemons:
            daemon.end()


async def main(program):
    directory = tempfile.mkdtemp()
    await at_a_point_of_python(program, directory)
    await at_a_point_of_a_daemon(program, directory)
    print("met")


trio.run(main, sys.argv[1])
