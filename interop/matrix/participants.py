"""Who takes part: what each can do, how it is installed, how it is started."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

INTEROP = Path(__file__).parent.parent
ADAPTER = [sys.executable, "-B", str(INTEROP / "adapter")]
HIVEMIND = "hivemind==1.1.12"
GO_DAEMON = "github.com/libp2p/go-libp2p-daemon/p2pd"
# quic-go 0.45.2, which both link, panics as a listener when it is built with Go 1.26: "crypto/tls bug:
# where's my session ticket?"
GO = "go1.25.5"
INSTALL = 900


@dataclass
class Participant:
    """A daemon behind the adapter, or a program of its own that takes listen and dial."""

    name: str
    transports: tuple
    muxers: tuple
    security: tuple = ("noise", "tls")
    daemon: str = None
    program: list = field(default_factory=list)
    missing: str = ""


def all_of(home, rp2pd):
    tcp_ws_quic = ("tcp", "ws", "quic-v1")
    both = ("yamux", "mplex")
    go = attempt(lambda: go_programs(home))
    fork = attempt(lambda: hivemind(home))
    js = attempt(lambda: js_programs(home))
    py = attempt(lambda: py_programs(home))
    rust = attempt(rust_program)
    return [
        Participant("rp2pd", tcp_ws_quic, both, daemon=rp2pd),
        Participant("go-p2pd-v0.9.2", tcp_ws_quic, both, daemon=go and f"{go}/p2pd"),
        # Whatever -muxer says, it speaks yamux.
        Participant("go-p2pd-hivemind", tcp_ws_quic, ("yamux",), daemon=fork),
        Participant("go-libp2p-v0.36", tcp_ws_quic, both, program=go and [f"{go}/ping"]),
        Participant("js-libp2p-v3", ("tcp", "ws"), both, program=js and ["node", f"{js}/ping.mjs"]),
        Participant("py-libp2p-v0.8", tcp_ws_quic, both, program=py),
        Participant("rust-libp2p-v0.57", tcp_ws_quic, both, program=rust),
    ]


def attempt(install):
    try:
        return install()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"not installed, so left out: {error}", file=sys.stderr)
        return None


def step(*words, cwd=None, **variables):
    print(f"+ {' '.join(map(str, words))}", file=sys.stderr, flush=True)
    subprocess.run(
        list(map(str, words)), cwd=cwd, check=True, timeout=INSTALL, stdout=sys.stderr,
        env={**os.environ, **variables},
    )


def redis_server():
    """Its path; from Debian where it is not installed yet."""
    if not shutil.which("redis-server"):
        step("apt-get", "update")
        step("apt-get", "install", "--yes", "--no-install-recommends", "redis-server")
    return shutil.which("redis-server") or "redis-server"


def go_programs(home):
    words = ["go", "build", "-o", f"{home}/", GO_DAEMON, "./ping"]
    step(*words, cwd=INTEROP / "go", GOTOOLCHAIN=GO)
    return home


def js_programs(home):
    directory = home / "js"
    directory.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", "node20.mjs", "ping.mjs"):
        shutil.copy(INTEROP / "js" / name, directory)
    if not (directory / "node_modules/.package-lock.json").exists():
        step("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=directory)
    return directory


def py_programs(home):
    python = home / "py/bin/python"
    stamp = home / "py/complete"
    if not stamp.exists():
        step(sys.executable, "-m", "venv", home / "py")
        pins = INTEROP / "python/requirements-libp2p.txt"
        step(python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", pins)
        stamp.touch()
    return [str(python), str(INTEROP / "python/py_ping.py")]


def rust_program():
    """An example of this package, for it has its libraries from the same registry."""
    root = INTEROP.parent
    step("cargo", "build", "--locked", "--example", "ping", cwd=root)
    words = ["cargo", "metadata", "--locked", "--no-deps", "--format-version=1"]
    told = json.loads(subprocess.run(words, cwd=root, check=True, capture_output=True).stdout)
    return [f"{told['target_directory']}/debug/examples/ping"]


def hivemind(home):
    """The fork's daemon, out of the wheel that carries it."""
    daemon = home / "p2pd-hivemind"
    if not daemon.exists():
        wheel = home / "wheel"
        step(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
             "--dest", wheel, HIVEMIND)
        step(sys.executable, "-m", "zipfile", "-e", next(wheel.glob("*.whl")), wheel)
        (wheel / "hivemind/hivemind_cli/p2pd").rename(daemon)
        daemon.chmod(0o755)
        shutil.rmtree(wheel)
    return str(daemon)
