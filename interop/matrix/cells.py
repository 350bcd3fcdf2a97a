"""Cells of the matrix: two or three participants, one verdict."""

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from network import Lab, is_allowed
from participants import ADAPTER, redis_server

sys.path.append(str(Path(__file__).parent.parent / "adapter"))
from failure import Deadline, Failure
from redis import Redis as Client

# Seconds for one cell.
TIMEOUT = 40
PERF = {
    "UPLOAD_BYTES": 100 << 20, "DOWNLOAD_BYTES": 100 << 20,
    "UPLOAD_ITERATIONS": 3, "DOWNLOAD_ITERATIONS": 3, "LATENCY_ITERATIONS": 20,
}


class Redis:
    """A server of one's own on loopback, while it is entered."""

    def __init__(self, home):
        self.program = redis_server()
        self.home = home

    def __enter__(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        words = [self.program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        self.child = subprocess.Popen([*words, "--dir", str(self.home)], stdout=subprocess.DEVNULL)
        self.call("PING")
        return self

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()

    def client(self):
        return Client(("127.0.0.1", self.port), Deadline(TIMEOUT))

    def call(self, *words):
        return self.client().call(*words)


@dataclass
class Result:
    """What came of a cell; `reason` says why it is expected to be red."""

    test: str
    names: tuple
    link: tuple
    passed: bool
    figures: str
    complaint: str = ""
    reason: str = ""

    @property
    def name(self):
        return f"{self.test}: {' x '.join(self.names)} ({', '.join(self.link)})".replace(" ()", "")

    def line(self):
        verdict = "pass" if self.passed else "FAIL"
        return f"{verdict}  {self.name}  {self.figures}{self.complaint}"


def plan(everybody, names):
    """Every cell in which one of `names` takes part."""
    present = [one for one in everybody if one.daemon or one.program]
    daemons = [one for one in present if one.daemon]
    plans = [Ping(*pair, link) for pair in product(present, repeat=2) for link in links(*pair)]
    plans += [Perf(*pair, ("tcp", "noise", "yamux")) for pair in product(daemons, repeat=2)]
    two = [one for one in daemons if one.name in ("rp2pd", "go-p2pd-v0.9.2")]
    plans += [Dht(*three) for three in product(two, repeat=3)]
    if is_allowed():
        plans += [Gossip(*pair) for pair in product(daemons, repeat=2)]
        plans += holes({one.name: one for one in daemons})
    else:
        print("no network namespaces, so left out: gossipsub, hole-punch", file=sys.stderr)
    wanted = set(names)
    return [one for one in plans if wanted & {side.name for side in one.sides}]


def holes(daemons):
    """Dialer, listener, relay. Go's daemon v0.9.2 cannot be a relay, and finds none by itself."""
    own, fork = daemons.get("rp2pd"), daemons.get("go-p2pd-hivemind")
    tcp, quic = ("tcp", "noise", "yamux"), ("quic-v1",)
    threes = [((own, own, own), tcp), ((own, own, own), quic), ((own, own, fork), tcp)]
    threes += [((own, own, fork), quic), ((own, fork, own), tcp), ((fork, own, own), tcp)]
    return [HolePunch(*three, link=link) for three, link in threes if all(three)]


def links(dialer, listener):
    for transport in dialer.transports:
        if transport not in listener.transports:
            continue
        if transport == "quic-v1":
            yield (transport,)
            continue
        for security, muxer in product(dialer.security, dialer.muxers):
            if security in listener.security and muxer in listener.muxers:
                yield transport, security, muxer


class Cell:
    """Starts its sides in order; the last one's end and words are the verdict."""

    test = ""

    def __init__(self, *sides, link=()):
        self.sides = sides
        self.link = link

    def run(self, redis):
        redis.call("FLUSHALL")
        names = tuple(one.name for one in self.sides)
        self.running, self.logs = [], tempfile.TemporaryFile()
        try:
            code, printed = self.judge(redis)
            figures = self.figures(printed) if code == 0 else ""
            complaint = "" if figures else self.complaint(printed)
        except (Failure, OSError, subprocess.SubprocessError) as error:
            figures, complaint = "", str(error)
        finally:
            for child in self.running:
                stop(child)
            self.logs.close()
        return Result(self.test, names, self.link, bool(figures), figures, complaint)

    def start(self, words, **variables):
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        child = subprocess.Popen(
            list(map(str, words)), env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.logs,
        )
        self.running.append(child)
        return child

    def adapter(self, side, test, redis, within=lambda *words: words, **variables):
        """An adapter around a daemon; `within` is what its command line becomes."""
        given = {
            "REDIS_ADDR": f"127.0.0.1:{redis.port}", "TEST_KEY": "a5b50d5e",
            "TEST_TIMEOUT_SECS": TIMEOUT, "LISTENER_IP": "127.0.0.1",
        }
        given |= dict(zip(("TRANSPORT", "SECURE_CHANNEL", "MUXER"), self.link))
        return self.start(within(*ADAPTER, test), P2PD=side.daemon, **(given | variables))

    def end(self, child):
        printed, _ = child.communicate(timeout=TIMEOUT + 20)
        return child.returncode, printed

    def complaint(self, printed):
        self.logs.seek(0)
        said = [line for line in self.logs.read().decode(errors="replace").splitlines() if line]
        told = [line for line in said if line.startswith("adapter: ")] or said or [printed]
        return " ".join(told[-1].split())[:160]


class Ping(Cell):
    """The transport matrix."""

    test = "transport"

    def __init__(self, dialer, listener, link):
        super().__init__(dialer, listener, link=link)

    def judge(self, redis):
        dialer, listener = self.sides
        key = "a5b50d5e_listener_multiaddr"
        words = [*self.link, "none", "none"][:3]
        if listener.daemon:
            child = self.adapter(listener, "transport", redis, IS_DIALER="false")
            address = self.told(child, redis, key)
        else:
            address = self.start([*listener.program, "listen", *words]).stdout.readline().strip()
        if not dialer.daemon:
            return self.end(self.start([*dialer.program, "dial", *words, address]))
        redis.client().push(key, address)
        return self.end(self.adapter(dialer, "transport", redis, IS_DIALER="true"))

    def told(self, child, redis, key):
        """The address that an adapter tells; a Failure as soon as it cannot any more."""
        client = redis.client()

        def ask():
            if child.poll() is not None:
                raise Failure(self.complaint(""))
            return client.call("LINDEX", key, 0)

        address = client.deadline.poll("the listener told no address", ask, 0.05)
        client.call("DEL", key)
        return address.decode()

    def figures(self, printed):
        numbers = re.findall(r"\d+(?:\.\d+)?", printed)[-2:]
        return " / ".join(f"{float(one):.1f}" for one in numbers) + " ms" if len(numbers) == 2 else ""


class Perf(Cell):
    """The perf matrix, between daemons."""

    test = "perf"

    def __init__(self, dialer, listener, link):
        super().__init__(dialer, listener, link=link)

    def judge(self, redis):
        dialer, listener = self.sides
        self.adapter(listener, "perf", redis, IS_DIALER="false", **PERF)
        return self.end(self.adapter(dialer, "perf", redis, IS_DIALER="true", **PERF))

    def figures(self, printed):
        medians = re.findall(r"median: (\S+)", printed)
        if len(medians) != 3:
            return ""
        return "up {} Gbps, down {} Gbps, {} ms".format(*medians)


class Dht(Cell):
    """The kad-dht matrix: bootstrap node, provider, querier."""

    test = "kad-dht"

    def judge(self, redis):
        begin = time.monotonic()
        for role, side in zip(("bootstrap", "provider", "querier"), self.sides):
            last = self.adapter(side, "kad-dht", redis, ROLE=role)
        code, printed = self.end(last)
        return code, f"{printed} {(time.monotonic() - begin) * 1000:.0f}"

    def figures(self, printed):
        return f"{printed.split()[-1]} ms" if "status: pass" in printed else ""


class Gossip(Cell):
    """The gossipsub matrix: two nodes, each with a host name and an address, and the example script."""

    test = "gossipsub"
    script = ADAPTER[-1] + "/example-gossipsub.json"
    # Seconds: the script's own, and the start.
    timeout = 60

    def judge(self, redis):
        with tempfile.TemporaryDirectory() as directory:
            hosts = Path(directory, "hosts")
            hosts.write_text("".join(f"127.0.1.{number + 1} node{number}\n" for number in range(2)))
            words = [*ADAPTER, "gossipsub", "--params", self.script]
            nodes = "\n".join(
                f"unshare --uts env P2PD={shlex.quote(side.daemon)} sh -c "
                f"'hostname node{number}; exec \"$@\"' sh \"$@\" & pids=\"$pids $!\""
                for number, side in enumerate(self.sides)
            )
            script = (
                f"ip link set lo up; mount --bind {shlex.quote(str(hosts))} /etc/hosts\n{nodes}\n"
                "for pid in $pids; do wait $pid; done"
            )
            # All of it ends with the first process.
            kinds = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            child = self.start(["unshare", *kinds, "sh", "-e", "-c", script, "sh", *words])
            printed, _ = child.communicate(timeout=self.timeout)
            return child.returncode, printed

    def figures(self, printed):
        told = printed.count('"Received Message"')
        return f"{told} of 2 messages" if told == 2 else ""


class HolePunch(Cell):
    """The hole-punch matrix: dialer and listener, each behind a NAT of its own, and the relay."""

    test = "hole-punch"
    at = "60.0.1.1"

    def judge(self, redis):
        dialer, listener, relay = self.sides
        with Lab() as lab:
            public = lab.host(f"{self.at}/16")
            near, far = lab.behind_nat("60.0.10.1/16", 10), lab.behind_nat("60.0.20.1/16", 20)
            self.start(public.words(
                redis.program, "--bind", self.at, "--save", "", "--protected-mode", "no",
            ))
            given = {"REDIS_ADDR": f"{self.at}:6379", "LISTENER_IP": "0.0.0.0"}
            self.adapter(relay, self.test, redis, public.words, RELAY_IP=self.at, **given)
            self.adapter(listener, self.test, redis, far.words, IS_DIALER="false", **given)
            return self.end(
                self.adapter(dialer, self.test, redis, near.words, IS_DIALER="true", **given)
            )

    figures = Ping.figures


def stop(child):
    """Ends one child and waits for it; a kill after ten seconds."""
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()
