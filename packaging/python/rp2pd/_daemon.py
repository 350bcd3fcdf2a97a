"""The daemon of this package as a child of the program."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections import deque
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Deque, List, Optional, Sequence, Type, Union

import anyio
from anyio.abc import ByteReceiveStream, Process

from ._background import Background
from ._find import find_rp2pd_bin
from ._node import Node
from .errors import DaemonUnavailable

log = logging.getLogger("rp2pd")
daemon_log = logging.getLogger("rp2pd.daemon")

Option = Union[str, int, float, bool, Sequence[str], "os.PathLike[str]", None]

# From SIGTERM on: streams have -shutdownGrace, 5 s unless set.
_STOP = 15.0
_LAST_PAUSE = 5.0
# A daemon that lived so long has not failed at its start.
_SOUND = 10.0
_FAILURES = 8


def flags(options: "dict[str, Option]") -> List[str]:
    """`host_addrs=[...]` is `-hostAddrs=...,...`; None leaves the flag out."""
    out = []
    for key, value in options.items():
        if value is None:
            continue
        first, *rest = key.strip("_").split("_")
        flag = first + "".join(part[:1].upper() + part[1:] for part in rest)
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, (str, int, float, os.PathLike)):
            text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        else:
            text = ",".join(value)
        out.append(f"-{flag}={text}")
    return out


class Daemon:
    """`async with rp2pd.Daemon(dht=True) as node` runs a daemon for as long as the block.

    Options are the daemon's flags (SETTINGS.md) in Python's spelling: `host_addrs=[...]`,
    `pubsub=True`, `conn_hi=100`, durations with a unit as text, `shutdown_grace="1s"`. Without `id`, the
    path of a key file, the peer id is a new one for each Daemon, and stays over its restarts.

    A daemon that ends by itself is started again (unless `restart=False`), and the node resumes. It
    ends with the program, even if that is killed. What it logs goes to the logger `rp2pd.daemon`.
    DaemonUnavailable with its last words if it cannot be started within `start_timeout` seconds.
    """

    def __init__(
        self,
        *,
        binary: Optional[str] = None,
        restart: bool = True,
        start_timeout: float = 30.0,
        patience: float = 30.0,
        **options: Option,
    ) -> None:
        unfit = {"f", "i", "q", "quiet", "version", "validate", "healthcheck"} & set(options)
        if unfit:
            raise ValueError(f"no options of a daemon that runs: {', '.join(sorted(unfit))}")
        self._binary = binary
        self._restart = restart
        self._start_timeout = start_timeout
        self._patience = patience
        self._options = options
        self._flags: List[str] = []
        self._control = ""
        self._said: Deque[str] = deque(maxlen=20)
        self._process: Optional[Process] = None
        self._stack = AsyncExitStack()

    @property
    def pid(self) -> int:
        """Of the daemon that runs now."""
        if self._process is None:
            raise DaemonUnavailable("the daemon does not run")
        return self._process.pid

    async def __aenter__(self) -> Node:
        self._binary = self._binary or find_rp2pd_bin()
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rp2pd-"))
            options: "dict[str, Option]" = {"listen": f"/unix{folder}/control.sock"}
            if self._options.get("id") is None:
                options.update(id=os.path.join(folder, "key"), create_identity=True)
            self._flags = flags({**self._options, **options, **self._given("listen")})
            # The fork's clients end a daemon by their going; so does this one, if it is killed.
            pumps = await stack.enter_async_context(Background())
            stack.push_async_callback(self._stop)
            await self._start(pumps)
            node = Node(self._control, patience=self._patience)
            await stack.enter_async_context(node)
            await node._calls.ensure()
            supervision = await stack.enter_async_context(Background())
            supervision.spawn(self._supervise, pumps, node)
            self._stack = stack.pop_all()
        return node

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def _given(self, *names: str) -> "dict[str, Option]":
        return {name: self._options[name] for name in names if self._options.get(name)}

    async def _start(self, pumps: Background) -> None:
        """Returns when the daemon has printed its banner."""
        assert self._binary is not None
        self._said.clear()
        process = await anyio.open_process(
            [self._binary, *self._flags], stdin=subprocess.DEVNULL
        )
        self._process = process
        banner, output_ended, log_ended = anyio.Event(), anyio.Event(), anyio.Event()
        pumps.spawn(self._pump, process.stdout, output_ended, banner)
        pumps.spawn(self._pump, process.stderr, log_ended, None)
        with anyio.move_on_after(self._start_timeout):
            await banner.wait()
        if banner.is_set() and not output_ended.is_set():
            return
        await self._stop()
        with anyio.move_on_after(1):
            await log_ended.wait()
        said = "\n".join(self._said) or "it said nothing"
        raise DaemonUnavailable(f"the daemon did not start: {said}")

    async def _pump(
        self, pipe: ByteReceiveStream, ended: anyio.Event, banner: Optional[anyio.Event]
    ) -> None:
        """Reads an output to its end, lest the daemon waits for a reader."""
        rest = b""
        try:
            async for chunk in pipe:
                *lines, rest = (rest + chunk).split(b"\n")
                # A line without an end is not kept for ever.
                rest = rest[-65536:]
                for line in lines:
                    self._heard(line.decode("utf-8", "replace"), banner)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            ended.set()
            if banner is not None:
                banner.set()

    def _heard(self, line: str, banner: Optional[anyio.Event]) -> None:
        if banner is None:
            self._said.append(line)
            daemon_log.info("%s", line)
        elif line.startswith("Control socket:"):
            self._control = line.partition(":")[2].strip()
            banner.set()

    async def _supervise(self, pumps: Background, node: Node) -> None:
        failures = 0
        while True:
            assert self._process is not None
            began = anyio.current_time()
            code = await self._process.wait()
            error = DaemonUnavailable(f"the daemon has ended with code {code}")
            log.warning("%s", error)
            failures = 0 if anyio.current_time() - began > _SOUND else failures + 1
            while True:
                if not self._restart or failures > _FAILURES:
                    node._session.give_up(error)
                    return
                await anyio.sleep(min(0.05 * 2**failures, _LAST_PAUSE))
                try:
                    await self._start(pumps)
                    node._session.control = self._control
                    break
                except DaemonUnavailable as refused:
                    error, failures = refused, failures + 1

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with anyio.CancelScope(shield=True):
            try:
                process.terminate()
            except ProcessLookupError:
                pass
            with anyio.move_on_after(_STOP):
                await process.wait()
                return
            process.kill()
            await process.wait()
