"""What comes one after the other: events, messages, results of the DHT."""

from __future__ import annotations

from typing import AsyncIterator, Awaitable, Callable, Generic, List, Optional, TypeVar

import anyio

from ._session import Session
from ._wire import Frames
from .errors import ConnectionLost, DaemonUnavailable

T = TypeVar("T")


class Feed(Generic[T], AsyncIterator[T]):
    """An asynchronous iterator on a connection of its own.

    `async for item in feed` opens it at the first item. `async with feed:` opens it at once, so that
    nothing is missed from then on, and closes it at the end.
    """

    def __init__(
        self,
        session: Session,
        begin: Callable[[Frames], Awaitable[object]],
        read: Callable[[Frames], Awaitable[Optional[T]]],
        resumes: bool,
        tell: Optional[Callable[[bool], T]] = None,
    ) -> None:
        self._session = session
        self._begin = begin
        self._read = read
        self._resumes = resumes
        # Gives what stands where the daemon was lost (False) and where it is back (True).
        self._tell = tell
        self._frames: Optional[Frames] = None
        # Opened by the session when the daemon came back; read once the last one has ended.
        self._next: Optional[Frames] = None
        self._losses = 0
        self._open = False
        self._closed = False

    async def __aenter__(self) -> "Feed[T]":
        if not self._open:
            await self._connect()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends it, also for a task that waits for the next item."""
        self._closed = True
        both, self._frames, self._next = (self._frames, self._next), None, None
        for frames in both:
            if frames is not None:
                await frames.aclose()

    def __aiter__(self) -> "Feed[T]":
        return self

    async def __anext__(self) -> T:
        while not self._closed:
            if self._frames is None:
                again = self._open
                await self._reconnect() if again else await self._connect()
                if again and self._tell is not None:
                    return self._tell(True)
                continue
            try:
                item = await self._read(self._frames)
            except ConnectionLost:
                if not self._resumes:
                    await self.aclose()
                    raise
                await self._frames.aclose()
                self._frames = None
                if self._tell is not None:
                    return self._tell(False)
                continue
            except anyio.ClosedResourceError:
                break
            if item is None:
                break
            return item
        await self.aclose()
        raise StopAsyncIteration

    async def _connect(self) -> None:
        frames = await self._begun(await self._session.open())
        self._frames, self._losses, self._open = frames, self._session.losses, True
        self._session.feeds.add(self)

    async def resume(self) -> None:
        """The session calls it when another daemon is there."""
        if not self._resumes or self._closed:
            return
        frames = await self._begun(await self._session.dial(0))
        if self._closed:
            return await frames.aclose()
        stale, self._next = self._next, frames
        if stale is not None:
            await stale.aclose()

    async def _begun(self, frames: Frames) -> Frames:
        try:
            await self._begin(frames)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await frames.aclose()
            raise
        return frames

    async def _reconnect(self) -> None:
        while True:
            await self._session.after_loss(self._losses)
            self._losses = self._session.losses
            if self._next is not None:
                self._frames, self._next = self._next, None
                return
            try:
                return await self._connect()
            except DaemonUnavailable:
                # It went away once more; after_loss() raises what ends the waiting for good.
                continue


async def collect(feed: "Feed[T]") -> List[T]:
    """All of a feed that ends."""
    async with feed:
        return [item async for item in feed]
