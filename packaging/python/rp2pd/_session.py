"""One daemon behind a control address, over its restarts."""

from __future__ import annotations

import logging
import weakref
from typing import Any, Awaitable, Callable, List, Optional, Tuple

import anyio

from ._protobuf import Fields, Value
from ._wire import Frames, Unanswered
from .errors import ConnectionLost, DaemonError, DaemonUnavailable

log = logging.getLogger("rp2pd")

IDENTIFY = 0
_FIRST_PAUSE = 0.05
_LAST_PAUSE = 2.0
# How long the other connections may take to notice an end that one has noticed.
_NOTICED = 1.0


class Session:
    """Opens connections, and notices when the daemon goes and comes back.

    One idle connection is held all the time: its end is the daemon's. Once another daemon answers,
    `resumers` put back what the last one knew, and only then requests go on.
    """

    def __init__(self, control: str, patience: float) -> None:
        self.control = control
        self.patience = patience
        self.resumers: List[Callable[[], Awaitable[None]]] = []
        self.identity = Fields(b"")
        # How often the daemon was lost.
        self.losses = 0
        # Those that are open; closed with the node.
        self.feeds: "weakref.WeakSet[Any]" = weakref.WeakSet()
        self._ready = anyio.Event()
        self._lost = anyio.Event()
        self._dead: Optional[DaemonError] = None

    async def establish(self, patience: float) -> Frames:
        """The connection that is held; requests may go on afterwards."""
        held = await self.dial(patience)
        try:
            self.identity = (await held.ask(IDENTIFY)).message(4)
            for resume in list(self.resumers):
                await resume()
            for feed in list(self.feeds):
                await self._resume(feed)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await held.aclose()
            raise
        self._ready.set()
        return held

    @staticmethod
    async def _resume(feed: Any) -> None:
        try:
            await feed.resume()
        except DaemonUnavailable:
            raise
        except DaemonError as error:
            # The reader gets it too, when it asks anew.
            log.error("a subscription is not back: %s", error)

    async def watch(self, held: Frames) -> None:
        """Holds the connection, and a new one whenever it ends."""
        while True:
            try:
                await held.wait_end()
            finally:
                with anyio.CancelScope(shield=True):
                    await held.aclose()
            self.losses += 1
            self._ready = anyio.Event()
            lost, self._lost = self._lost, anyio.Event()
            lost.set()
            log.info("the daemon at %s has closed: connecting anew", self.control)
            held = await self._again()
            log.info("the daemon at %s is back", self.control)

    async def _again(self) -> Frames:
        pause = _FIRST_PAUSE
        while True:
            await anyio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)
            try:
                return await self.establish(0)
            except DaemonError as error:
                log.debug("not yet: %s", error)
            except Exception:
                # Whoever waits for the daemon must not wait for ever because of it.
                log.exception("the daemon is there, and cannot be used")

    def give_up(self, error: DaemonError) -> None:
        """No daemon will come any more: whoever waits for one gets the error."""
        self._dead = error
        self._ready.set()

    async def dial(self, patience: float) -> Frames:
        """A new connection. Tries again with pauses for `patience` seconds."""
        deadline = anyio.current_time() + patience
        pause = _FIRST_PAUSE
        while True:
            if self._dead is not None:
                raise self._dead
            try:
                return await Frames.dial(self.control)
            except OSError as error:
                if anyio.current_time() + pause > deadline:
                    text = f"no daemon answers at {self.control}: {error}"
                    raise DaemonUnavailable(text) from error
            await anyio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    async def open(self) -> Frames:
        """A new connection to a daemon that knows what it should."""
        await self.wait_ready()
        return await self.dial(self.patience)

    async def wait_ready(self) -> None:
        """DaemonUnavailable if no daemon is there after the patience."""
        with anyio.move_on_after(self.patience):
            while not self._ready.is_set():
                await self._ready.wait()
        if self._dead is not None:
            raise self._dead
        if not self._ready.is_set():
            raise DaemonUnavailable(f"no daemon answers at {self.control}")

    async def after_loss(self, losses: int) -> None:
        """Until a daemon is there after the one that was there after so many losses."""
        if self.losses == losses:
            with anyio.move_on_after(_NOTICED):
                await self._lost.wait()
        while not self._ready.is_set():
            await self._ready.wait()
        if self._dead is not None:
            raise self._dead

    async def close_feeds(self) -> None:
        for feed in list(self.feeds):
            await feed.aclose()

    async def request(self, kind: int, *fields: Tuple[int, Value]) -> Fields:
        """One request on a connection of its own."""
        async with await self.open() as frames:
            try:
                return await frames.ask(kind, *fields)
            except Unanswered as error:
                try:
                    await (await self.dial(0)).aclose()
                except DaemonUnavailable:
                    raise ConnectionLost(error.text) from error
                raise
