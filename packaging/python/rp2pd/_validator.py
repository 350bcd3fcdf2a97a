"""What a program judges for the daemon: questions on a connection, and its verdicts."""

from __future__ import annotations

import logging
from typing import Awaitable, Callable, NamedTuple, Optional

import anyio

from ._background import Background
from ._feed import Feed
from ._protobuf import Fields
from ._session import Session
from ._wire import Frames
from .errors import DaemonError

log = logging.getLogger("rp2pd")

# Questions that one validator has in hand; the daemon holds those that wait.
_AT_ONCE = 256


class _Case(NamedTuple):
    frames: Frames
    question: Fields


class Validator:
    """A registered validator. It ends with the node, or by `aclose()`."""

    def __init__(self, feed: "Feed[_Case]", judge: Callable[[Fields], Awaitable[bytes]]) -> None:
        self._feed = feed
        self._judge = judge
        self._room = anyio.Semaphore(_AT_ONCE)

    async def aclose(self) -> None:
        """From then on nothing is judged, as if the program had gone."""
        await self._feed.aclose()

    async def _run(self, tasks: Background) -> None:
        try:
            async for case in self._feed:
                await self._room.acquire()
                tasks.spawn(self._answer, case)
        except DaemonError as error:
            log.error("the validator has ended: %s", error)

    async def _answer(self, case: _Case) -> None:
        try:
            verdict = await self._judge(case.question)
            with anyio.CancelScope(shield=True):
                await case.frames.send(verdict)
        except (DaemonError, anyio.ClosedResourceError):
            log.debug("the verdict is not wanted any more")
        finally:
            self._room.release()


async def register(
    session: Session,
    tasks: Background,
    kind: int,
    request: bytes,
    judge: Callable[[Fields], Awaitable[bytes]],
) -> Validator:
    """Registers by a request whose field has the number of its type, as its questions have."""

    async def begin(frames: Frames) -> None:
        await frames.ask(kind, (kind, request))

    async def read(frames: Frames) -> Optional[_Case]:
        while True:
            answer = await frames.receive()
            if answer.has(kind):
                return _Case(frames, answer.message(kind))

    feed = Feed(session, begin, read, resumes=True)
    await feed.__aenter__()
    validator = Validator(feed, judge)
    tasks.spawn(validator._run, tasks)
    return validator
