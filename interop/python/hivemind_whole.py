"""The whole of hivemind, tensors included, on the daemon that lies in the package's place.

    hivemind_whole.py [--rounds N] [--nodes N] [SCENARIO...]

Scenarios: a DHT that stores and finds 100 values, a search for experts in a DHT, experts that
are called, tensors averaged among four peers, calls of every kind. All of them unless some are
named, N times (once). Prints what it did and how long it took; fails if anything is missing or
wrong. See README.md for what to install.
"""

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import AsyncIterator

import hivemind
import numpy
import torch
from hivemind.moe import RemoteExpert
from hivemind.moe.client.beam_search import MoEBeamSearcher
from hivemind.moe.client.expert import create_remote_experts
from hivemind.moe.expert_uid import ExpertInfo
from hivemind.moe.server import background_server, declare_experts, get_experts
from hivemind.p2p import P2P, ServicerBase
from hivemind.proto import test_pb2
from hivemind.utils import get_dht_time

VALUES = 100
PEERS = 4
LIFETIME = 600
# Seconds for one scenario.
TIMEOUT = 120
# A grid of experts, those in it, and those that one search is to find.
GRID = (32, 32, 32)
EXPERTS = 128
BEST = 4
# Searches in one call. Twice as many make a message of over 16 KiB for the process of the DHT,
# which multiprocessing writes in two parts. Its reader is not blocking (libuv makes it so), and
# on a busy machine it wakes between the two, fails with EAGAIN and never answers again. That is
# hivemind's own, with any daemon.
BATCH = 16


def children():
    """Every daemon below this process: `DHT` runs in processes of its own."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = stat.read_text().rsplit(") ", 1)
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(fields.split()[1]), name.split(" (", 1)[1])
    found = set()
    for pid, (parent, name) in parents.items():
        while parent in parents and parent != os.getpid():
            parent = parents[parent][0]
        if parent == os.getpid() and name in ("p2pd", "rp2pd"):
            found.add(pid)
    return found


def swarm_of(nodes):
    first = hivemind.DHT(start=True)
    peers = [str(addr) for addr in first.get_visible_maddrs()]
    return [first] + [hivemind.DHT(initial_peers=peers, start=True) for _ in range(nodes - 1)]


def dht(nodes):
    begun = time.monotonic()
    swarm = swarm_of(nodes)
    started = time.monotonic()
    print(f"DHT: {nodes} nodes after {started - begun:.1f} s", flush=True)
    assert len(children()) == nodes, children()
    expires = get_dht_time() + LIFETIME
    for index in range(VALUES):
        assert random.choice(swarm).store(f"key {index}", index, expiration_time=expires), index
    stored = time.monotonic()
    for index in range(VALUES):
        found = random.choice(swarm).get(f"key {index}", latest=True)
        assert found is not None and found.value == index, (index, found)
    ended = time.monotonic()
    print(
        f"DHT: {VALUES} of {VALUES} values stored and found, "
        f"{(stored - started) / VALUES * 1e3:.0f} and {(ended - stored) / VALUES * 1e3:.0f} ms each",
        flush=True,
    )
    for node in swarm:
        node.shutdown()


def search(nodes):
    """Experts are declared in a DHT; a node that joins late finds the best of them."""
    begun = time.monotonic()
    swarm = swarm_of(nodes)
    uids = sorted(
        {"expert." + ".".join(str(random.randrange(size)) for size in GRID) for _ in range(EXPERTS)}
    )
    for batch in range(0, len(uids), 32):
        declared = declare_experts(
            random.choice(swarm), uids[batch : batch + 32], get_dht_time() + LIFETIME
        )
        assert all(declared.values()), declared
    declared = time.monotonic()
    known = sum((node.get_visible_maddrs() for node in random.sample(swarm, 3)), [])
    late = hivemind.DHT(initial_peers=known, parallel_rpc=4, start=True)
    searcher = MoEBeamSearcher(late, "expert.", GRID)
    for _ in range(10):
        found = searcher.find_best_experts([numpy.random.randn(size) for size in GRID], BEST)
        assert len(found) == BEST and all(expert.uid in uids for expert in found), found
    for _ in range(10):
        scores = [numpy.random.randn(BATCH, size) for size in GRID]
        batches = searcher.batch_find_best_experts(scores, beam_size=BEST)
        assert [len(batch) for batch in batches] == [BEST] * BATCH, batches
    # Nodes that leave take nothing with them.
    left, remaining = swarm[:2], swarm[2:]
    for node in left:
        node.shutdown()
    assert all(declare_experts(remaining[0], ["late.1"], get_dht_time() + LIFETIME).values())
    there, absent = get_experts(remaining[-1], ["late.1", "late.2"])
    assert isinstance(there, RemoteExpert) and there.peer_id == remaining[0].peer_id, there
    assert absent is None, absent
    print(
        f"experts: {len(uids)} declared after {declared - begun:.1f} s, "
        f"searched after {time.monotonic() - declared:.1f} s more",
        flush=True,
    )
    for node in remaining + [late]:
        node.shutdown()


def experts(_nodes):
    """A server of experts answers a client's forward and backward passes."""
    begun = time.monotonic()
    with background_server(
        num_experts=3, device="cpu", expert_cls="ffn", num_handlers=2, hidden_dim=16
    ) as server:
        client = hivemind.DHT(initial_peers=server.addrs, start=True)
        infos = [ExpertInfo(f"expert.{index}", server.peer_id) for index in range(3)]
        for expert in create_remote_experts(infos, client):
            inputs = torch.randn(4, 16, requires_grad=True)
            output = expert(inputs)
            assert output.shape == (4, 16) and torch.isfinite(output).all(), output
            output.sum().backward()
            assert inputs.grad is not None and torch.isfinite(inputs.grad).all()
        missing = create_remote_experts([ExpertInfo("expert.99", server.peer_id)], client)[0]
        try:
            missing(torch.randn(4, 16))
        except Exception as error:  # Whatever the class, it must come.
            assert "expert.99" in str(error), error
        else:
            raise AssertionError("an expert that is not there answered")
        client.shutdown()
    print(f"experts: forward and backward after {time.monotonic() - begun:.1f} s", flush=True)


class Servicer(ServicerBase):
    async def rpc_square(self, request: test_pb2.TestRequest, context) -> test_pb2.TestResponse:
        if request.number < 0:
            raise ValueError("a negative number")
        return test_pb2.TestResponse(number=request.number**2)

    async def rpc_sum(
        self, stream: AsyncIterator[test_pb2.TestRequest], context
    ) -> test_pb2.TestResponse:
        return test_pb2.TestResponse(number=sum([item.number async for item in stream]))

    async def rpc_count(
        self, request: test_pb2.TestRequest, context
    ) -> AsyncIterator[test_pb2.TestResponse]:
        for number in range(request.number):
            yield test_pb2.TestResponse(number=number)

    async def rpc_powers(
        self, stream: AsyncIterator[test_pb2.TestRequest], context
    ) -> AsyncIterator[test_pb2.TestResponse]:
        async for item in stream:
            yield test_pb2.TestResponse(number=item.number**3)


async def _calls():
    server = await P2P.create()
    client = await P2P.create(initial_peers=await server.get_visible_maddrs())
    await Servicer().add_p2p_handlers(server)
    stub = Servicer.get_stub(client, server.peer_id)

    async def numbers(count):
        for number in range(count):
            yield test_pb2.TestRequest(number=number)

    answers = await asyncio.gather(
        *(stub.rpc_square(test_pb2.TestRequest(number=number)) for number in range(500))
    )
    assert [answer.number for answer in answers] == [number**2 for number in range(500)]
    assert (await stub.rpc_sum(numbers(10))).number == 45
    counted = [item.number async for item in await stub.rpc_count(test_pb2.TestRequest(number=10))]
    assert counted == list(range(10)), counted
    powers = [item.number async for item in await stub.rpc_powers(numbers(10))]
    assert powers == [number**3 for number in range(10)], powers
    try:
        await stub.rpc_square(test_pb2.TestRequest(number=-1))
    except Exception as error:
        assert "a negative number" in str(error), error
    else:
        raise AssertionError("the handler's exception is lost")
    await asyncio.gather(server.shutdown(), client.shutdown())


def calls(_nodes):
    begun = time.monotonic()
    asyncio.run(_calls())
    print(f"calls: 500 at once and every kind after {time.monotonic() - begun:.1f} s", flush=True)


def averaging(_nodes):
    begun = time.monotonic()
    first = hivemind.DHT(start=True)
    peers = [str(addr) for addr in first.get_visible_maddrs()]
    dhts = [first] + [hivemind.DHT(initial_peers=peers, start=True) for _ in range(PEERS - 1)]
    # Large enough that a part of a tensor does not fit one call.
    tensors = [[torch.randn(1_000_000), torch.randn(2, 3)] for _ in range(PEERS)]
    expected = [torch.stack(parts).mean(dim=0) for parts in zip(*tensors)]
    averagers = [
        hivemind.DecentralizedAverager(
            own,
            dht,
            prefix="whole",
            target_group_size=PEERS,
            min_group_size=PEERS,
            min_matchmaking_time=5.0,
            client_mode=False,
            start=True,
        )
        for own, dht in zip(tensors, dhts)
    ]
    steps = [averager.step(wait=False, timeout=60) for averager in averagers]
    groups = [step.result(timeout=90) for step in steps]
    assert all(len(group) == PEERS for group in groups), groups
    for averager in averagers:
        with averager.get_tensors() as averaged:
            for got, wanted in zip(averaged, expected):
                error = (got - wanted).abs().max().item()
                assert error < 1e-5, error
    print(f"averager: {PEERS} peers agree after {time.monotonic() - begun:.1f} s", flush=True)
    for part in averagers + dhts:
        part.shutdown()


SCENARIOS = (dht, search, experts, averaging, calls)


def main():
    names = {scenario.__name__: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--only", choices=list(names), help=argparse.SUPPRESS)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO")
    arguments = parser.parse_args()
    if arguments.only:
        return run(names[arguments.only], arguments.nodes)
    for name in arguments.scenario:
        if name not in names:
            parser.error(f"no scenario is called {name!r}: there are {', '.join(names)}")
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", flush=True)
        for name in arguments.scenario or names:
            # A process of its own: hivemind forks, which what torch and threads have left
            # behind does not survive.
            command = [sys.executable, "-W", "ignore", __file__, "--nodes", str(arguments.nodes)]
            subprocess.run([*command, "--only", name], timeout=TIMEOUT, check=True)
    print("no daemon is left")


def run(scenario, nodes):
    scenario(nodes)
    deadline = time.monotonic() + 10
    while children():
        assert time.monotonic() < deadline, f"daemons left behind: {children()}"
        time.sleep(0.05)


if __name__ == "__main__":
    main()
