"""The DHT: who is where, who has what, and records."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Awaitable, Callable, Optional, Sequence, Tuple, TypeVar, Union

from ._background import Background
from ._feed import Feed
from ._ids import base58, cid_bytes, peer_bytes
from ._protobuf import Fields, Value, encode, name
from ._session import Session
from ._types import PeerInfo, peer_info
from ._validator import Validator, register
from ._wire import Frames

log = logging.getLogger("rp2pd")

T = TypeVar("T")

DHT, DHT_VALIDATOR = 4, 103
_FIND_PEER, _PROVIDERS, _CLOSEST, _PUBLIC_KEY, _GET, _SEARCH, _PUT, _PROVIDE = 0, 2, 3, 4, 5, 6, 7, 8
_END = 2
_SELECT = 1

# Gets key and value. A text is why it is not valid.
Judge = Callable[[bytes, bytes], Union[bool, str, Awaitable[Union[bool, str]]]]
# Gets the key and values that are all valid; gives the index of the best.
Choose = Callable[[bytes, Sequence[bytes]], Union[int, Awaitable[int]]]


def first(_key: bytes, _values: Sequence[bytes]) -> int:
    return 0


def seconds(timeout: Optional[float]) -> Optional[int]:
    """Whole seconds, rounded up: the daemon knows no others. None is its own 60 s."""
    if timeout is None:
        return None
    if timeout <= 0:
        raise ValueError("a timeout must be above 0")
    return math.ceil(timeout)


class Dht:
    """What `node.dht` is. Without a DHT all raises NotEnabled; timeouts are in seconds, 60 unless given."""

    def __init__(self, session: Session, tasks: Background) -> None:
        self._session = session
        self._tasks = tasks

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

    async def validate(
        self,
        namespace: str,
        judge: Judge,
        choose: Choose = first,
        *,
        deadline: float = 5.0,
    ) -> Validator:
        """Has `judge` say which records of a namespace are valid, and `choose` which is the best.

        They get keys as `b"/namespace/..."`. `judge` gives True, or False or why not; PUT_VALUE fails
        with that text. `choose` is asked which of two valid values is to stay: of an older and a
        newer one, the newer, whichever comes first. Without it the first stays. What raises, or takes
        longer than `deadline` (seconds, up to 60), lets nothing pass. AlreadyExists if another program
        validates it. Registered again after a restart of the daemon.
        """
        request = encode((1, name(namespace)), (2, max(1, round(deadline * 1000))))

        async def decide(question: Fields) -> bytes:
            verdict = encode((1, question.number(1)), *await _decided(question, judge, choose))
            return encode((1, DHT_VALIDATOR), (103, encode((3, [verdict]))))

        return await register(self._session, self._tasks, DHT_VALIDATOR, request, decide)

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


async def _decided(question: Fields, judge: Judge, choose: Choose) -> "Tuple[Tuple[int, Value], ...]":
    """The fields of a verdict. Without any it lets nothing pass."""
    key, values = question.raw(3), question.all(4)
    try:
        if question.number(2) == _SELECT:
            best = choose(key, values)
            if inspect.isawaitable(best):
                best = await best
            return ((3, range(len(values))[best]),)
        said = judge(key, values[0] if values else b"")
        if inspect.isawaitable(said):
            said = await said
        if isinstance(said, str):
            return ((2, False), (4, name(said)))
        return ((2, bool(said)),)
    except Exception:
        log.exception("a validator failed: the record is not valid")
        return ()
