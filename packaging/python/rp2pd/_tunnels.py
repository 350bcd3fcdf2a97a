"""Local ports that are carried to peers."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Callable, Iterable, List, Optional, Tuple, Type, Union

import anyio

from ._ids import base58, peer_bytes
from ._multiaddr import addr_bytes, addr_text
from ._protobuf import Fields, Value, encode, name
from ._session import Session
from ._wire import Frames

TUNNEL = 105
_FORWARD, _EXPOSE, _LIST, _CLOSE = range(4)

# A multiaddr, or a port of loopback.
Place = Union[str, int]


@dataclass(frozen=True)
class TunnelInfo:
    """A tunnel at one moment."""

    id: int
    # "forward" or "expose".
    kind: str
    protocol: str
    # Where a forward listens, or where a service is.
    address: str
    # Whom a forward leads to.
    peer: Optional[str]
    # Who may use a service; empty for every peer.
    allow: Tuple[str, ...]
    # Connections now, so far, and those that failed or were refused.
    open: int
    total: int
    failed: int
    # Bytes from peers and to them.
    received: int
    sent: int
    keep: bool
    # Why the last connection that failed did.
    error: Optional[str]


class Tunnel:
    """A port that leads to a peer, or a service that peers may use, for as long as `async with`.

    It is put back when the daemon was restarted, at the same port; its connections are not.
    """

    def __init__(self, session: Session, request: Callable[[Optional[bytes]], bytes]) -> None:
        self._session = session
        self._request = request
        self._frames: Optional[Frames] = None
        self._bound: Optional[bytes] = None
        self._closed = False
        # Of the daemon that is there now.
        self.id = 0

    @property
    def address(self) -> str:
        """Where it listens, or where it leads: a multiaddr."""
        return addr_text(self._bound or b"")

    @property
    def port(self) -> int:
        """The tcp port of the address. ValueError if that is a path."""
        return int(self.address.rpartition("/tcp/")[2])

    async def __aenter__(self) -> "Tunnel":
        await self._make(await self._session.open())
        self._session.feeds.add(self)
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        """Ends it and its connections, unless it is kept."""
        self._closed = True
        frames, self._frames = self._frames, None
        if frames is not None:
            await frames.aclose()

    async def resume(self) -> None:
        """The session calls it when another daemon is there."""
        if not self._closed:
            await self._make(await self._session.dial(0))

    async def _make(self, frames: Frames) -> None:
        try:
            answer = await frames.ask(TUNNEL, (105, self._request(self._bound)))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await frames.aclose()
            raise
        made = answer.message(105).message(1)
        self.id, self._bound = made.number(1), made.raw(4)
        stale, self._frames = self._frames, frames
        if stale is not None:
            await stale.aclose()
        if self._closed:
            await self.aclose()


def _place(place: Place) -> bytes:
    return addr_bytes(f"/ip4/127.0.0.1/tcp/{place}" if isinstance(place, int) else place)


def forward(
    session: Session,
    peer: str,
    protocol: str,
    listen: Place,
    addresses: Iterable[str],
    users: Iterable[int],
    any_interface: bool,
    networks: Iterable[str],
    connections: Optional[int],
    keep: bool,
) -> Tunnel:
    wanted = _place(listen)
    others: List[Tuple[int, Value]] = [
        (1, _FORWARD),
        (2, name(protocol)),
        (4, peer_bytes(peer)),
        (5, [addr_bytes(one) for one in addresses]),
        (9, list(users)),
        (10, any_interface),
        (11, keep),
        (13, connections),
        (14, [name(one) for one in networks]),
    ]
    return Tunnel(session, lambda bound: encode(*others, (3, bound or wanted)))


def expose(
    session: Session,
    protocol: str,
    target: Place,
    allow: Iterable[str],
    any_peer: bool,
    connections: Optional[int],
    keep: bool,
) -> Tunnel:
    request = encode(
        (1, _EXPOSE),
        (2, name(protocol)),
        (6, _place(target)),
        (7, [peer_bytes(one) for one in allow]),
        (8, any_peer),
        (11, keep),
        (13, connections),
    )
    return Tunnel(session, lambda _bound: request)


def list_request() -> bytes:
    return encode((1, _LIST))


def close_request(ids: Iterable[int]) -> bytes:
    return encode((1, _CLOSE), (12, list(ids)))


def infos(answer: Fields) -> List[TunnelInfo]:
    return [_info(one) for one in answer.message(105).messages(1)]


def _info(fields: Fields) -> TunnelInfo:
    return TunnelInfo(
        id=fields.number(1),
        kind="expose" if fields.number(2) == _EXPOSE else "forward",
        protocol=fields.text(3),
        address=addr_text(fields.raw(4)),
        peer=base58(fields.raw(5)) if fields.has(5) else None,
        allow=tuple(base58(one) for one in fields.all(6)),
        open=fields.number(7),
        total=fields.number(8),
        failed=fields.number(9),
        received=fields.number(10),
        sent=fields.number(11),
        keep=fields.flag(12),
        error=fields.text(14) if fields.has(14) else None,
    )
