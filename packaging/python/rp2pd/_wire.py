"""A connection to the control socket: frames, requests and answers."""

from __future__ import annotations

import ipaddress
from typing import Tuple, Union

import anyio
from anyio.abc import SocketStream

from ._protobuf import Fields, Malformed, Value, encode, varint
from .errors import ConnectionLost, DaemonUnavailable, NotSupported, from_text

# Above what a daemon sends: its own limit is -persistentConnMaxMsgSize, 4 MiB unless set.
_MAX_FRAME = 256 << 20
_ERROR = 1

_BROKEN = (OSError, anyio.BrokenResourceError, anyio.EndOfStream)


def address_parts(addr: str) -> Union[str, Tuple[str, int]]:
    """The path or the host and port of a control address. ValueError if it is none."""
    if addr.startswith("/unix/"):
        return "/" + addr[len("/unix/") :].strip("/")
    parts = addr.strip("/").split("/")
    if len(parts) >= 4 and parts[0] in ("ip4", "ip6", "dns", "dns4", "dns6") and parts[2] == "tcp":
        if parts[0].startswith("ip"):
            ipaddress.ip_address(parts[1])
        if parts[3].isdigit():
            return parts[1], int(parts[3])
    raise ValueError(f"no control address: {addr!r}; such as /unix/tmp/p2pd.sock")


class Frames:
    """Messages on a socket, each after its length. One reader, any number of writers."""

    def __init__(self, socket: SocketStream) -> None:
        self._socket = socket
        self._buffer = bytearray()
        self._sending = anyio.Lock()

    @classmethod
    async def dial(cls, addr: str) -> "Frames":
        """OSError if nobody listens there."""
        place = address_parts(addr)
        if isinstance(place, str):
            return cls(await anyio.connect_unix(place))
        return cls(await anyio.connect_tcp(*place))

    async def send(self, message: bytes) -> None:
        try:
            async with self._sending:
                await self._socket.send(varint(len(message)) + message)
        except _BROKEN as error:
            raise ConnectionLost("the daemon has closed the connection") from error

    async def receive(self) -> Fields:
        """The next message. ConnectionLost at the end, also within one."""
        try:
            return Fields(await self._frame())
        except _BROKEN as error:
            raise ConnectionLost("the daemon has closed the connection") from error
        except Malformed as error:
            raise DaemonUnavailable(f"no daemon, or one of another kind: {error}") from error

    async def _frame(self) -> bytes:
        length, shift, used = 0, 0, 0
        while True:
            if used == len(self._buffer):
                self._buffer += await self._socket.receive()
                continue
            byte = self._buffer[used]
            length |= (byte & 0x7F) << shift
            used, shift = used + 1, shift + 7
            if byte < 0x80:
                break
            if shift > 35:
                raise Malformed("length of a frame")
        if length > _MAX_FRAME:
            raise Malformed(f"frame of {length} bytes")
        while len(self._buffer) < used + length:
            self._buffer += await self._socket.receive(1 << 18)
        frame = bytes(self._buffer[used : used + length])
        del self._buffer[: used + length]
        return frame

    async def answer(self) -> Fields:
        """The next message, if it says OK; the daemon's error otherwise."""
        response = await self.receive()
        if response.number(1) == _ERROR:
            raise from_text(response.message(2).text(1))
        return response

    async def ask(self, kind: int, *fields: Tuple[int, Value]) -> Fields:
        """One request, and its answer."""
        await self.send(encode((1, kind), *fields))
        try:
            return await self.answer()
        except ConnectionLost as lost:
            if kind < 100:
                raise
            # So daemons answer that lack it (PROTOCOL.md 1).
            raise Unanswered(lost.text) from lost

    async def wait_end(self) -> None:
        """Until the daemon closes."""
        try:
            while True:
                await self._socket.receive()
        except _BROKEN:
            return

    def into_stream(self) -> Tuple[SocketStream, bytes]:
        """The socket, and what was read beyond the last frame."""
        return self._socket, bytes(self._buffer)

    async def aclose(self) -> None:
        await self._socket.aclose()

    async def __aenter__(self) -> "Frames":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


class Unanswered(NotSupported):
    """Closed without an answer, by a daemon that lacks the request or one that has ended."""
