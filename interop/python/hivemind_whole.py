"""The whole of hivemind, tensors included, on the daemon that lies in the package's place.

    hivemind_whole.py [NODES]

Starts a DHT of NODES nodes (20), stores and finds 100 values, and averages tensors among
four peers. Prints what it did and how long it took; fails if anything is missing or wrong.
See README.md for what to install.
"""

import os
import random
import sys
import time
from pathlib import Path

import hivemind
import torch
from hivemind.utils import get_dht_time

VALUES = 100
PEERS = 4
LIFETIME = 600


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


def dht(nodes):
    begun = time.monotonic()
    first = hivemind.DHT(start=True)
    peers = [str(addr) for addr in first.get_visible_maddrs()]
    swarm = [first] + [hivemind.DHT(initial_peers=peers, start=True) for _ in range(nodes - 1)]
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


def averaging():
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


def main():
    dht(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    averaging()
    deadline = time.monotonic() + 10
    while children():
        assert time.monotonic() < deadline, f"daemons left behind: {children()}"
        time.sleep(0.05)
    print("no daemon is left")


if __name__ == "__main__":
    main()
