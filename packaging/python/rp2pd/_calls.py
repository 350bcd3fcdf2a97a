"""Unary calls: one request and one answer, many at a time over one connection."""

from __future__ import annotations

import logging
import os
from typing import Awaitable, Callable, Dict, Optional, Tuple, Union

import anyio

from ._background import Background
from ._ids import base58, peer_bytes
from ._protobuf import Fields, Value, encode, name
from ._session import Session
from ._wire import Frames
from .errors import CallFailed, ConnectionLost, DaemonError, DaemonUnavailable, from_text

log = logging.getLogger("rp2pd")

UPGRADE = 9
_ADD, _CALL, _RESPONSE, _CANCEL, _REMOVE = 2, 3, 4, 5, 6

# Gets the caller's peer id and its data, gives the answer.
CallHandler = Callable[[str, bytes], Awaitable[bytes]]


class _Pending:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.result: Union[Fields, DaemonError, None] = None

    def finish(self, result: Union[Fields, DaemonError]) -> None:
        if self.result is None:
            self.result = result
            self.done.set()


class Calls:
    """The persistent connection. Opened at the first use, and anew when the daemon is back."""

    def __init__(self, session: Session, tasks: Background) -> None:
        self._session = session
        self._tasks = tasks
        self._frames: Optional[Frames] = None
        self._lock = anyio.Lock()
        self._pending: Dict[bytes, _Pending] = {}
        self._handlers: Dict[bytes, Tuple[CallHandler, bool]] = {}
        self._running: Dict[bytes, anyio.CancelScope] = {}
        self._used = False
        session.resumers.append(self._resume)

    async def ensure(self) -> Frames:
        await self._session.wait_ready()
        async with self._lock:
            return self._frames or await self._restore(self._session.patience)

    async def call(self, peer: str, protocol: str, data: bytes) -> bytes:
        fields = encode((1, peer_bytes(peer)), (2, name(protocol)), (3, data))
        answer = (await self._exchange(await self.ensure(), _CALL, fields)).message(2)
        if answer.has(2):
            raise CallFailed(answer.text(2))
        return answer.raw(1)

    async def add(self, protocol: str, handler: CallHandler, balanced: bool) -> None:
        key = name(protocol)
        frames = await self.ensure()
        before = self._handlers.get(key)
        self._handlers[key] = (handler, balanced)
        try:
            await self._exchange(frames, _ADD, encode((1, key), (2, balanced)))
        except BaseException:
            self._handlers.pop(key)
            if before is not None:
                self._handlers[key] = before
            raise

    async def remove(self, protocol: str) -> None:
        key = name(protocol)
        await self._exchange(await self.ensure(), _REMOVE, encode((1, key)))
        self._handlers.pop(key, None)

    async def _connect(self, patience: float) -> Frames:
        frames = await self._session.dial(patience)
        try:
            await frames.ask(UPGRADE)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await frames.aclose()
            raise
        self._frames, self._used = frames, True
        self._tasks.spawn(self._read, frames)
        return frames

    async def _resume(self) -> None:
        if self._used:
            async with self._lock:
                await self._restore(0)

    async def _restore(self, patience: float) -> Frames:
        """A new connection, with the handlers that the last one had."""
        frames = await self._connect(patience)
        for key, (_, balanced) in list(self._handlers.items()):
            try:
                await self._exchange(frames, _ADD, encode((1, key), (2, balanced)))
            except DaemonUnavailable:
                raise
            except DaemonError as error:
                log.error("handler of calls %r is not back: %s", key, error)
        return frames

    async def _exchange(self, frames: Frames, kind: int, fields: bytes) -> Fields:
        """Sends one message and waits for what bears its id."""
        if frames is not self._frames:
            raise ConnectionLost("the daemon has closed the connection")
        key = os.urandom(16)
        pending = self._pending[key] = _Pending()
        try:
            await self._send(frames, (1, key), (kind, fields))
            await pending.done.wait()
        except BaseException:
            if kind == _CALL:
                with anyio.move_on_after(1, shield=True):
                    try:
                        await self._send(frames, (1, key), (_CANCEL, b""))
                    except DaemonError:
                        pass
            raise
        finally:
            del self._pending[key]
        if isinstance(pending.result, Fields):
            return pending.result
        raise pending.result or ConnectionLost("the daemon has closed the connection")

    @staticmethod
    async def _send(frames: Frames, *fields: Tuple[int, Value]) -> None:
        # Half a message would spoil the connection for all calls.
        with anyio.CancelScope(shield=True):
            await frames.send(encode(*fields))

    async def _read(self, frames: Frames) -> None:
        try:
            while True:
                self._take(frames, await frames.receive())
        except (DaemonUnavailable, anyio.ClosedResourceError):
            pass
        finally:
            if self._frames is frames:
                self._frames = None
                for pending in list(self._pending.values()):
                    pending.finish(ConnectionLost("the daemon has closed the connection"))
            for scope in list(self._running.values()):
                scope.cancel()
            with anyio.CancelScope(shield=True):
                await frames.aclose()

    def _take(self, frames: Frames, message: Fields) -> None:
        key = message.raw(1)
        if message.has(3):
            self._tasks.spawn(self._handle, frames, key, message.message(3))
        elif message.has(5) and key in self._running:
            self._running[key].cancel()
        elif key in self._pending:
            failed = message.has(4)
            self._pending[key].finish(from_text(message.message(4).text(1)) if failed else message)

    async def _handle(self, frames: Frames, key: bytes, request: Fields) -> None:
        found = self._handlers.get(request.raw(2))
        with anyio.CancelScope() as scope:
            self._running[key] = scope
            try:
                if found is None:
                    answer = encode((2, "no handler"))
                else:
                    data = await found[0](base58(request.raw(1)), request.raw(3))
                    answer = encode((1, bytes(data)))
            except Exception as error:
                # The caller hears what went wrong, as with Hivemind's client.
                log.info("handler of calls failed", exc_info=True)
                answer = encode((2, str(error) or type(error).__name__))
            finally:
                self._running.pop(key, None)
            try:
                await self._send(frames, (1, key), (_RESPONSE, answer))
            except (DaemonError, anyio.ClosedResourceError):
                log.debug("the caller is gone")
