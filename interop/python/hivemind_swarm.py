"""A swarm of hivemind in network namespaces: one public node, two behind NATs that let in only what was
sent to (port restricted), on the daemon that lies in the package's place.

    hivemind_swarm.py

The two find each other by the public node, call each other and average tensors, first by a circuit through
it, then directly. The public node is killed and comes back in the middle, and everything goes on. Needs
root, `ip`, `nft`, and hivemind with torch: see README.md. Prints what it did and how long it took; fails if
anything is missing or wrong.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time

PUBLIC = "60.0.1.1"
PORT = 4001
PREFIX = "swarm"
# Seconds for one step.
STEP = 120

# As in tests/support/lab.rs: what is not answered is not refused either.
NAT = """
table ip t {{
  chain pre {{ type nat hook prerouting priority -100; }}
  chain post {{ type nat hook postrouting priority 100; oifname wan masquerade; }}
  chain forw {{ type filter hook forward priority 0; policy drop;
    iifname wan ct state established,related accept
    iifname lan accept
  }}
  chain inp {{ type filter hook input priority 0; policy drop;
    iifname lan accept
    ct state established,related accept
  }}
}}
"""


class Host:
    """A network namespace, there for as long as its holder is."""

    def __init__(self):
        hold = "ip link set lo up && echo && exec cat"
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", hold],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout.readline() == b"\n", "no network namespaces"

    def command(self, *words):
        return ["nsenter", f"--target={self.holder.pid}", "--net", *words]

    def run(self, script):
        subprocess.run(self.command("sh", "-e", "-c", script), check=True)

    def end(self):
        self.holder.kill()
        self.holder.wait()


def lab():
    """The public host, and two behind routers of their own; the routers and the bridge between."""
    bridge = Host()
    bridge.run("ip link add br0 type bridge && ip link set br0 up")
    hosts = []

    def plugged(address):
        host = Host()
        hosts.append(host)
        bridge.run(
            f"ip link add c{len(hosts)} type veth peer name wan netns {host.holder.pid}\n"
            f"ip link set c{len(hosts)} master br0 up"
        )
        host.run(f"ip addr add {address} dev wan && ip link set wan up")
        return host

    public = plugged(f"{PUBLIC}/16")
    inside = []
    for number in (10, 11):
        router, host = plugged(f"60.0.{number}.1/16"), Host()
        router.run(
            f"ip link add lan type veth peer name eth0 netns {host.holder.pid}\n"
            f"ip addr add 192.168.{number}.1/24 dev lan\n"
            "ip link set lan up\n"
            "sysctl -qw net.ipv4.ip_forward=1\n"
            f"nft -f - <<'RULES'\n{NAT.format()}\nRULES"
        )
        host.run(
            f"ip addr add 192.168.{number}.2/24 dev eth0\n"
            "ip link set eth0 up\n"
            f"ip route add default via 192.168.{number}.1"
        )
        inside.append(host)
    return public, inside, [bridge, *hosts, *inside]


class Node:
    """A program of hivemind in a namespace, which does what it is told line by line."""

    def __init__(self, host, *arguments):
        command = host.command(sys.executable, "-W", "ignore", __file__, *arguments)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # Killed with all its children.
        self.process = subprocess.Popen(command, start_new_session=True, **pipes)
        self.peer, self.address = self.read()

    def read(self):
        line = self.process.stdout.readline()
        assert line, "a node has ended"
        answer = json.loads(line)
        assert "wrong" not in answer, answer["wrong"]
        return answer["done"]

    def begin(self, what, *arguments):
        self.process.stdin.write(json.dumps([what, *arguments]) + "\n")
        self.process.stdin.flush()

    def do(self, what, *arguments):
        self.begin(what, *arguments)
        return self.read()

    def kill(self):
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()


def until(what, condition, limit=STEP):
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < limit, f"in vain: {what}"
        time.sleep(0.2)
    return time.monotonic() - begun


def is_circuit(address):
    return "/p2p-circuit" in address


def main():
    public_host, inside, hosts = lab()
    nodes = []

    def start(host, *arguments):
        nodes.append(Node(host, *arguments))
        return nodes[-1]

    try:
        with tempfile.TemporaryDirectory() as folder:
            whole(public_host, inside, start, f"{folder}/identity")
    finally:
        for node in nodes:
            node.kill()
        for host in hosts:
            host.end()
    print("the swarm is whole")


def whole(public_host, inside, start, identity):
    begun = time.monotonic()
    public = start(public_host, "public", identity)
    print(f"public node after {time.monotonic() - begun:.1f} s", flush=True)
    one, two = [start(host, "private", public.address) for host in inside]
    took = until("circuits", lambda: all(any(map(is_circuit, n.do("told"))) for n in (one, two)))
    print(f"both tell a circuit after {took:.1f} s", flush=True)

    # Nothing but a circuit can lead from one to the other at first: a hole is punched over it, perhaps
    # before anybody has looked.
    assert one.do("call", two.peer, 7) == 49
    ways = one.do("ways", two.peer)
    assert any(map(is_circuit, ways)), ways
    print("called by a circuit", flush=True)
    took = until("a direct way", lambda: not all(map(is_circuit, one.do("ways", two.peer))))
    assert one.do("call", two.peer, 8) == 64 and two.do("call", one.peer, 9) == 81
    print(f"called directly, {took:.1f} s later", flush=True)
    average(one, two)

    # The public node is killed. The two go on without it.
    public.kill()
    assert one.do("call", two.peer, 10) == 100 and two.do("call", one.peer, 11) == 121
    print("called while the public node is away", flush=True)
    again = start(public_host, "public", identity)
    assert again.peer == public.peer
    took = until("circuits", lambda: all(any(map(is_circuit, n.do("told"))) for n in (one, two)))
    took += until("the public node", lambda: all(again.peer in n.do("peers") for n in (one, two)))
    print(f"both are back at the public node after {took:.1f} s", flush=True)
    assert one.do("call", again.peer, 3) == 9 and again.do("call", two.peer, 4) == 16
    until("a value", lambda: one.do("store", "key", 5) and two.do("get", "key") == 5)
    average(one, two)


def average(one, two):
    begun = time.monotonic()
    for node, value in ((one, 1.0), (two, 3.0)):
        node.begin("average", value)
    averaged = [one.read(), two.read()]
    assert all(abs(value - 2.0) < 1e-5 for value in averaged), averaged
    print(f"averaged after {time.monotonic() - begun:.1f} s", flush=True)


def node(kind, argument):
    """The program in a namespace."""
    import hivemind
    import torch
    from hivemind.p2p import PeerID, ServicerBase
    from hivemind.proto import test_pb2
    from hivemind.utils import get_dht_time

    class Servicer(ServicerBase):
        async def rpc_square(self, request: test_pb2.TestRequest, context) -> test_pb2.TestResponse:
            return test_pb2.TestResponse(number=request.number**2)

    if kind == "public":
        dht = hivemind.DHT(
            host_maddrs=[f"/ip4/{PUBLIC}/tcp/{PORT}"],
            identity_path=argument,
            force_reachability="public",
            start=True,
        )
    else:
        dht = hivemind.DHT(
            initial_peers=[argument],
            host_maddrs=[f"/ip4/0.0.0.0/tcp/{PORT}"],
            use_auto_relay=True,
            trusted_relays=[argument],
            force_reachability="private",
            start=True,
        )
    tensors = [torch.zeros(100_000)]
    averager = hivemind.DecentralizedAverager(
        tensors,
        dht,
        prefix=PREFIX,
        target_group_size=2,
        min_group_size=2,
        min_matchmaking_time=5.0,
        client_mode=False,
        start=True,
    )

    async def work():
        p2p = await dht.replicate_p2p()
        await Servicer().add_p2p_handlers(p2p)

        async def connected():
            return {info.peer_id.to_base58(): info.addrs for info in await p2p.list_peers()}

        async def ways(peer):
            return [str(address) for address in (await connected()).get(peer, [])]

        async def call(peer, number):
            stub = Servicer.get_stub(p2p, PeerID.from_base58(peer))
            for attempt in range(20):
                try:
                    return (await stub.rpc_square(test_pb2.TestRequest(number=number))).number
                except Exception:
                    if attempt == 19:
                        raise
                    await asyncio.sleep(0.5)

        def averaged(value):
            with averager.get_tensors() as own:
                own[0][:] = value
            for _ in range(5):
                if averager.step(timeout=60) is not None:
                    break
            with averager.get_tensors() as own:
                return own[0][0].item()

        expires = lambda: get_dht_time() + 600
        loop = asyncio.get_running_loop()
        found = lambda key: getattr(dht.get(key, latest=True), "value", None)
        verbs = {
            "ways": ways,
            "call": call,
            "peers": lambda: _listed(connected()),
            "told": lambda: _texts(p2p.get_visible_maddrs(latest=True)),
            "average": lambda value: loop.run_in_executor(None, averaged, value),
            "store": lambda key, value: loop.run_in_executor(
                None, lambda: dht.store(key, value, expires())
            ),
            "get": lambda key: loop.run_in_executor(None, found, key),
        }
        own = [str(address) for address in await p2p.get_visible_maddrs(latest=True)]
        say({"done": [p2p.peer_id.to_base58(), own[0] if own else None]})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            verb, *arguments = json.loads(line)
            try:
                say({"done": await verbs[verb](*arguments)})
            except Exception as error:
                say({"wrong": f"{verb}: {error!r}"})

    asyncio.run(work())


async def _listed(connected):
    return list(await connected)


async def _texts(addresses):
    return [str(address) for address in await addresses]


def say(answer):
    print(json.dumps(answer), file=OUTPUT, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        # Libraries print as well.
        OUTPUT = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        node(*sys.argv[1:])
    else:
        main()
