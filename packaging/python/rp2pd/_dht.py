"""The DHT: who is where, who has what, and records."""

from __future__ import annotations

import math
from typing import Callable, Optional, Tuple, TypeVar, Union

from ._feed import Feed
from ._ids import base58, cid_bytes, peer_bytes
from ._protobuf import Fields, Value, encode, name
from ._session import Session
from ._types import PeerInfo, peer_info
from ._wire import Frames

T = TypeVar("T")

DHT = 4
_FIND_PEER, _PROVIDERS, _CLOSEST, _PUBLIC_KEY, _GET, _SEARCH, _PUT, _PROVIDE = 0, 2, 3, 4, 5, 6, 7, 8
_END = 2


def seconds(timeout: Optional[float]) -> Optional[int]:
    """Whole seconds, rounded up: the daemon knows no others. None is its own 60 s."""
    if timeout is None:
        return None
    if timeout <= 0:
        raise ValueError("a timeout must be above 0")
    return math.ceil(timeout)


class Dht:
    """What `node.dht` is. Without a DHT all raises NotEnabled; timeouts are in seconds, 60 unless given."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def find_peer(self, peer: str, *, timeout: Optional[float] = None) -> PeerInfo:
        """Where a peer is. NotFound if nobody knows."""
        answer = await self._one(_FIND_PEER, timeout, (2, peer_bytes(peer)))
        return peer_info(answer.message(2))

    def find_providers(
        self, cid: Union[str, bytes], *, count: int = 20, timeout: Optional[float] = None
    ) -> "Feed[PeerInfo]":
        """Those that have something, as they are found, up to `count`."""

        def read(value: Fields) -> PeerInfo:
            return peer_info(value.message(2))

        return self._many(read, _PROVIDERS, timeout, (3, cid_bytes(cid)), (6, count))

    def get_closest_peers(
        self, key: Union[str, bytes], *, timeout: Optional[float] = None
    ) -> "Feed[str]":
        """At most 20 peers, the nearest first."""

        def read(value: Fields) -> str:
            return base58(value.raw(3))

        return self._many(read, _CLOSEST, timeout, (4, name(key)))

    async def get_public_key(self, peer: str, *, timeout: Optional[float] = None) -> bytes:
        """The key of a peer, as libp2p's protobuf."""
        return (await self._one(_PUBLIC_KEY, timeout, (2, peer_bytes(peer)))).raw(3)

    async def get_value(self, key: Union[str, bytes], *, timeout: Optional[float] = None) -> bytes:
        """The best value of a key. NotFound if nobody has one."""
        return (await self._one(_GET, timeout, (4, name(key)))).raw(3)

    def search_value(
        self, key: Union[str, bytes], *, timeout: Optional[float] = None
    ) -> "Feed[bytes]":
        """Ever better values of a key."""
        return self._many(lambda value: value.raw(3), _SEARCH, timeout, (4, name(key)))

    async def put_value(
        self, key: Union[str, bytes], value: bytes, *, timeout: Optional[float] = None
    ) -> None:
        """Stores a value with the peers closest to its key. NoPeers if it stays here alone."""
        await self._one(_PUT, timeout, (4, name(key)), (5, value))

    async def provide(self, cid: Union[str, bytes], *, timeout: Optional[float] = None) -> None:
        """Tells that this daemon has something. NoPeers if there is nobody to tell."""
        await self._one(_PROVIDE, timeout, (3, cid_bytes(cid)))

    async def _one(
        self, kind: int, timeout: Optional[float], *fields: Tuple[int, Value]
    ) -> Fields:
        request = encode((1, kind), *fields, (7, seconds(timeout)))
        return (await self._session.request(DHT, (5, request))).message(5)

    def _many(
        self,
        convert: Callable[[Fields], T],
        kind: int,
        timeout: Optional[float],
        *fields: Tuple[int, Value],
    ) -> "Feed[T]":
        request = encode((1, kind), *fields, (7, seconds(timeout)))

        async def begin(frames: Frames) -> None:
            await frames.ask(DHT, (5, request))

        async def read(frames: Frames) -> Optional[T]:
            value = await frames.receive()
            return None if value.number(1) == _END else convert(value)

        return Feed(self._session, begin, read, resumes=False)
