"""Streams between peers, and the handlers of those that peers open."""

from __future__ import annotations

import logging
import os
import tempfile
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, Tuple, Union

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream

from ._background import Background
from ._ids import base58
from ._multiaddr import addr_bytes, addr_text
from ._protobuf import Fields, encode, name
from ._session import Session
from ._wire import Frames
from .errors import DaemonError, StreamReset

log = logging.getLogger("rp2pd")

STREAM_HANDLER, REMOVE_STREAM_HANDLER = 3, 10
# For the daemon to say whose stream it is.
_INTRODUCTION = 30

Handler = Callable[["Stream"], Awaitable[object]]


class Stream(ByteStream):
    """A stream of bytes with a peer.

    `send_eof()` ends one's own side, and the other goes on. `receive()` raises
    `anyio.EndOfStream` at the end. The daemon tells a reset to a reader as an end, as Go's does:
    protocols should say how much they send. A write to a stream that is gone raises StreamReset.
    """

    def __init__(self, socket: SocketStream, info: Fields, begun: bytes) -> None:
        self._socket = socket
        self._begun = begun
        self.peer: str = base58(info.raw(1))
        # Of the connection that carries it.
        self.address: str = addr_text(info.raw(2))
        # The one that both agreed on.
        self.protocol: str = info.text(3)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._begun:
            data, self._begun = self._begun[:max_bytes], self._begun[max_bytes:]
            return data
        try:
            return await self._socket.receive(max_bytes)
        except (OSError, anyio.BrokenResourceError) as error:
            raise StreamReset("stream reset") from error

    async def send(self, item: bytes) -> None:
        try:
            await self._socket.send(item)
        except (OSError, anyio.BrokenResourceError) as error:
            raise StreamReset("stream reset") from error

    async def send_eof(self) -> None:
        try:
            await self._socket.send_eof()
        except OSError as error:
            raise StreamReset("stream reset") from error

    async def aclose(self) -> None:
        """What was sent still arrives."""
        await self._socket.aclose()

    async def read_all(self, limit: int = 64 << 20) -> bytes:
        """All until the end. ValueError beyond `limit` bytes."""
        out = bytearray()
        try:
            while True:
                out += await self.receive()
                if len(out) > limit:
                    raise ValueError(f"stream of more than {limit} bytes")
        except anyio.EndOfStream:
            return bytes(out)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._socket.extra_attributes


class StreamHandlers:
    """Listens where the daemon brings inbound streams, and gives each to its handler."""

    def __init__(self, session: Session, tasks: Background, listen: Optional[str]) -> None:
        self._session = session
        self._tasks = tasks
        self._listen = listen
        self._folder: Optional["tempfile.TemporaryDirectory[str]"] = None
        self._addr: Optional[bytes] = None
        self._handlers: Dict[bytes, Tuple[Handler, Optional[bool]]] = {}
        self._lock = anyio.Lock()
        session.resumers.append(self._resume)

    async def add(self, protocols: List[bytes], handler: Handler, balanced: Optional[bool]) -> None:
        async with self._lock:
            if self._addr is None:
                self._addr = await self._begin()
        before = {one: self._handlers.get(one) for one in protocols}
        # Known before the answer: a stream may come first.
        self._handlers.update({one: (handler, balanced) for one in protocols})
        try:
            await self._session.request(STREAM_HANDLER, (4, self._registration(protocols, balanced)))
        except BaseException:
            for one, old in before.items():
                self._handlers.pop(one, None)
                if old is not None:
                    self._handlers[one] = old
            raise

    async def remove(self, protocols: List[bytes]) -> None:
        fields = encode((1, self._addr or b""), (2, protocols))
        await self._session.request(REMOVE_STREAM_HANDLER, (9, fields))
        for one in protocols:
            self._handlers.pop(one, None)

    def _registration(self, protocols: List[bytes], balanced: Optional[bool]) -> bytes:
        return encode((1, self._addr), (2, protocols), (3, balanced))

    async def _resume(self) -> None:
        for protocol, (_, balanced) in list(self._handlers.items()):
            async with await self._session.dial(0) as frames:
                try:
                    registration = self._registration([protocol], balanced)
                    await frames.ask(STREAM_HANDLER, (4, registration))
                except DaemonError as error:
                    log.error("handler of %r is not back: %s", protocol, error)

    async def _begin(self) -> bytes:
        if self._listen is None and self._session.control.startswith("/unix/"):
            # Only this user may enter: others could not be told from the daemon.
            self._folder = tempfile.TemporaryDirectory(prefix="rp2pd-")
            addr = "/unix" + os.path.join(self._folder.name, "streams.sock")
            unix = await anyio.create_unix_listener("/" + addr[len("/unix/") :])
            self._tasks.spawn(self._serve, unix)
        else:
            kind, host, _, port = (self._listen or "/ip4/127.0.0.1/tcp/0").strip("/").split("/")
            tcp = await anyio.create_tcp_listener(local_host=host, local_port=int(port))
            bound = tcp.extra(SocketAttribute.local_port)
            addr = f"/{kind}/{host}/tcp/{bound}"
            self._tasks.spawn(self._serve, tcp)
        return addr_bytes(addr)

    async def _serve(self, listener: Any) -> None:
        async with listener:
            await listener.serve(self._accept)

    async def _accept(self, socket: Any) -> None:
        stream: Union[Stream, None] = None
        try:
            async with socket:
                frames = Frames(socket)
                with anyio.fail_after(_INTRODUCTION):
                    info = await frames.receive()
                found = self._handlers.get(name(info.text(3)))
                if found is None:
                    return
                stream = Stream(*_parts(frames, info))
                await found[0](stream)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            log.debug("stream ended in its handler", exc_info=True)
        except Exception:
            log.exception("the handler of %s failed", stream.protocol if stream else "a stream")

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _parts(frames: Frames, info: Fields) -> Tuple[SocketStream, Fields, bytes]:
    socket, begun = frames.into_stream()
    return socket, info, begun


def opened(frames: Frames, answer: Fields) -> Stream:
    """The stream that a STREAM_OPEN has made of its connection."""
    return Stream(*_parts(frames, answer.message(3)))
