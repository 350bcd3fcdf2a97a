"""py-libp2p and two daemons find each other by multicast DNS.

    unshare --net python mdns.py DAEMON

Prints `found` once py-libp2p knows both daemons and each daemon has connected to the other and to
py-libp2p by its peer id alone. Runs in a network namespace with one interface that has an address.
"""

import subprocess
import sys
import tempfile
import time

import multiaddr
import trio
from libp2p import new_host
from libp2p.discovery.events.peerDiscovery import peerDiscovery
from libp2p.discovery.mdns.mdns import MDNSDiscovery
from libp2p.peer.id import ID

ADDRESS = "10.9.0.1"
PATIENCE = 45


def varint(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


async def connects(path, peer):
    """Whether CONNECT to the peer works without an address."""
    # Request: type 1 is CONNECT, field 2 its parameters.
    body = b"\x08\x01" + field(2, field(1, peer))
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(varint(len(body)) + body)
        answer = await stream.receive_some(4096)
    # Response: type 0 is OK.
    return answer[1:3] == b"\x08\x00"


async def main(program):
    directory = tempfile.mkdtemp()
    listen = f"/ip4/{ADDRESS}/tcp/0"
    daemons = []
    try:
        for name in ("one", "two"):
            path = f"{directory}/{name}.sock"
            process = subprocess.Popen(
                [program, f"-listen=/unix{path}", f"-hostAddrs={listen}", "-mdns"],
                stdout=subprocess.PIPE,
                text=True,
            )
            lines = iter(process.stdout.readline, "")
            peer = next(line.split()[-1] for line in lines if line.startswith("Peer ID"))
            daemons.append((process, path, peer))
        found = set()
        peerDiscovery.register_peer_discovered_handler(
            lambda info: found.add(info.peer_id.to_string())
        )
        host = new_host()
        async with host.run(listen_addrs=[multiaddr.Multiaddr(listen)]):
            port = int(host.get_transport_addrs()[0].value_for_protocol("tcp"))
            own = [f"/ip4/{ADDRESS}/tcp/{port}"]
            mdns = MDNSDiscovery(host.get_network(), port, listen_addrs=own, host=host)
            mdns.start()
            ids = {peer for _, _, peer in daemons}
            deadline = time.monotonic() + PATIENCE
            wanted = [
                (path, target)
                for _, path, peer in daemons
                for target in ids - {peer} | {host.get_id().to_string()}
            ]
            while time.monotonic() < deadline:
                left = []
                for path, target in wanted:
                    if not await connects(path, ID.from_string(target).to_bytes()):
                        left.append((path, target))
                wanted = left
                if ids <= found and not wanted:
                    print("found")
                    return
                await trio.sleep(0.2)
            print("not found:", ids - found, wanted)
    finally:
        for process, _, _ in daemons:
            process.terminate()
            process.wait()


trio.run(main, sys.argv[1])
