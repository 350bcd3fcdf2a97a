"""What can be seen and changed while the daemon runs (PROTOCOL.md 4 and 5)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import AsyncIterator, Dict, Iterable, List, Optional, Tuple

from ._ids import base58, peer_bytes
from ._multiaddr import addr_bytes, addr_text
from ._protobuf import Fields, encode, name
from ._session import Session

CONTROL, PROBE = 104, 106
_ANNOUNCE, _LISTEN, _RULES, _LIMITS = 0, 10, 20, 40
_ADD, _REMOVE = 1, 2
_PEERSTORE, _TAGS, _TRAFFIC = 30, 31, 43

# Stands for all peers that have no rule of their own.
EVERY_PEER = "*"


@dataclass(frozen=True)
class Listener:
    """An address that is listened on, as it was asked for, and what it is bound to."""

    address: str
    bound: Tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """Whether there may be connections with a peer, a network or every peer."""

    # A peer id, a network such as "10.0.0.0/8", or EVERY_PEER.
    subject: str
    allowed: bool


@dataclass(frozen=True)
class Limit:
    """A limit of a peer, of a protocol, or of the protocol with that peer. None limits nothing."""

    peer: Optional[str] = None
    protocol: Optional[str] = None
    # Bytes per second, from the peer and to it; at least 1024.
    receive: Optional[int] = None
    send: Optional[int] = None
    # At once; connections of a peer alone.
    connections: Optional[int] = None
    streams: Optional[int] = None


@dataclass(frozen=True)
class Traffic:
    """What has moved of a peer since it connected, or of a protocol since the daemon began."""

    peer: Optional[str]
    protocol: Optional[str]
    # Bytes of payload.
    received: int
    sent: int
    # Now.
    connections: int
    streams: int
    # Seconds that streams have waited because of its limit.
    waited: float


@dataclass(frozen=True)
class KnownAddress:
    """An address of a peer. Times are in seconds."""

    address: str
    # Since it was last told or led to the peer.
    age: float
    # Until it is forgotten; None while the peer is connected.
    expires: Optional[float]
    # It has led to the peer.
    proven: bool


@dataclass(frozen=True)
class KnownPeer:
    """What the daemon knows of a peer."""

    id: str
    connected: bool
    # A stranger's text.
    agent: Optional[str]
    protocols: Tuple[str, ...]
    addresses: Tuple[KnownAddress, ...]


@dataclass(frozen=True)
class Probed:
    """What an address has answered: who is there, or why nobody is."""

    address: str
    # The address with a name that it stands for.
    name: Optional[str]
    # Seconds.
    time: float
    peer: Optional[str]
    error: Optional[str]


class _List:
    """A list that the daemon keeps. What changes it gives back what it is then."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def _ask(self, kind: int, *fields: "Tuple[int, List[bytes]]") -> Fields:
        request = encode((1, kind), *fields)
        return (await self._session.request(CONTROL, (104, request))).message(104)


class Announced(_List):
    """Addresses that peers are told instead of those that are listened on or were found."""

    async def list(self) -> List[str]:
        return self._read(await self._ask(_ANNOUNCE))

    async def add(self, *addresses: str) -> List[str]:
        return self._read(await self._ask(_ANNOUNCE + _ADD, (2, _addrs(addresses))))

    async def remove(self, *addresses: str) -> List[str]:
        """All of them or, if one is not announced, none."""
        return self._read(await self._ask(_ANNOUNCE + _REMOVE, (2, _addrs(addresses))))

    @staticmethod
    def _read(answer: Fields) -> "List[str]":
        return [addr_text(one) for one in answer.all(1)]


class Listeners(_List):
    """Where the daemon listens."""

    async def list(self) -> List[Listener]:
        return self._read(await self._ask(_LISTEN))

    async def add(self, *addresses: str) -> List[Listener]:
        """All of them or none: DaemonError with Go's text, `bind: address already in use`."""
        return self._read(await self._ask(_LISTEN + _ADD, (2, _addrs(addresses))))

    async def remove(self, *addresses: str) -> List[Listener]:
        """As they were asked for or are bound. Connections stay, but those of quic."""
        return self._read(await self._ask(_LISTEN + _REMOVE, (2, _addrs(addresses))))

    @staticmethod
    def _read(answer: Fields) -> "List[Listener]":
        return [
            Listener(addr_text(one.raw(1)), tuple(addr_text(addr) for addr in one.all(2)))
            for one in answer.messages(2)
        ]


class Rules(_List):
    """Who may be connected with. They outlive a daemon with `datastore`.

    Of networks the one with the longest prefix decides, and of peers their own rule before that of
    EVERY_PEER; a connection needs both to be allowed.
    """

    async def list(self) -> List[Rule]:
        return self._read(await self._ask(_RULES))

    async def block(self, *subjects: str) -> List[Rule]:
        """Peer ids, networks, addresses or EVERY_PEER. Connections with them are closed."""
        rules = [_rule(one, 0) for one in subjects]
        return self._read(await self._ask(_RULES + _ADD, (5, rules)))

    async def allow(self, *subjects: str) -> List[Rule]:
        """Exceptions from what is blocked."""
        rules = [_rule(one, 1) for one in subjects]
        return self._read(await self._ask(_RULES + _ADD, (5, rules)))

    async def remove(self, *subjects: str) -> List[Rule]:
        """All of them or, if there is no rule for one, none."""
        rules = [_rule(one, 0) for one in subjects]
        return self._read(await self._ask(_RULES + _REMOVE, (5, rules)))

    @staticmethod
    def _read(answer: Fields) -> "List[Rule]":
        return [
            Rule(
                base58(one.raw(2)) if one.has(2) else one.text(3) if one.has(3) else EVERY_PEER,
                one.number(1) == 1,
            )
            for one in answer.messages(3)
        ]


class Limits(_List):
    """Limits of bandwidth, connections and streams. They end with the daemon."""

    async def list(self) -> List[Limit]:
        return self._read(await self._ask(_LIMITS))

    async def set(self, *limits: Limit) -> List[Limit]:
        """One of the same peer and protocol is replaced. What is beyond a rate waits."""
        return self._read(await self._ask(_LIMITS + _ADD, (7, [_limit(one) for one in limits])))

    async def remove(self, *limits: Limit) -> List[Limit]:
        """Those of the same peers and protocols."""
        return self._read(await self._ask(_LIMITS + _REMOVE, (7, [_limit(one) for one in limits])))

    @staticmethod
    def _read(answer: Fields) -> "List[Limit]":
        return [
            Limit(
                _peer(one, 1), _text(one, 2), *(_number(one, field) for field in (3, 4, 5, 6))
            )
            for one in answer.messages(7)
        ]


class Peerstore(_List):
    """What the daemon knows of peers."""

    async def find(
        self,
        *,
        peer: Optional[str] = None,
        protocol: Optional[str] = None,
        agent: Optional[str] = None,
        connected: Optional[bool] = None,
    ) -> AsyncIterator[KnownPeer]:
        """Those that fit all that is named, in the order of their ids; `agent` is how it begins."""
        query = (
            (1, peer_bytes(peer) if peer else None),
            (2, name(protocol) if protocol else None),
            (3, name(agent) if agent else None),
            (4, connected),
        )
        after: Optional[bytes] = None
        while True:
            answer = await self._ask(_PEERSTORE, (6, [encode(*query, (6, after))]))
            for one in answer.messages(4):
                yield _known(one)
            if not answer.has(5):
                return
            after = answer.raw(5)

    async def tags(self, *peers: str) -> Dict[str, Dict[str, int]]:
        """The tags of these peers, or of all that have some, each with its weight."""
        answer = await self._ask(_TAGS, (3, [peer_bytes(one) for one in peers]))
        return {
            base58(one.raw(1)): {tag.text(1): _signed(tag.number(2)) for tag in one.messages(2)}
            for one in answer.messages(6)
        }

    async def traffic(
        self, peers: Iterable[str] = (), protocols: Iterable[str] = ()
    ) -> List[Traffic]:
        """Of connected peers and of protocols; of all if none is named."""
        answer = await self._ask(
            _TRAFFIC,
            (3, [peer_bytes(one) for one in peers]),
            (4, [name(one) for one in protocols]),
        )
        return [
            Traffic(
                peer=_peer(one, 1),
                protocol=_text(one, 2),
                received=one.number(3),
                sent=one.number(4),
                connections=one.number(5),
                streams=one.number(6),
                waited=one.number(7) / 1000,
            )
            for one in answer.messages(8)
        ]


async def probe(
    session: Session, peer: Optional[str], addresses: Iterable[str], timeout: float
) -> List[Probed]:
    request = encode(
        (1, peer_bytes(peer) if peer else None),
        (2, _addrs(addresses)),
        (3, max(1, round(timeout * 1000))),
    )
    answer = (await session.request(PROBE, (106, request))).message(106)
    return [
        Probed(
            address=addr_text(one.raw(1)),
            name=addr_text(one.raw(2)) if one.has(2) else None,
            time=one.number(3) / 1e6,
            peer=_peer(one, 4),
            error=_text(one, 5),
        )
        for one in answer.messages(1)
    ]


def _addrs(addresses: Iterable[str]) -> List[bytes]:
    return [addr_bytes(one) for one in addresses]


def _rule(subject: str, action: int) -> bytes:
    if subject == EVERY_PEER:
        return encode((1, action), (4, True))
    if "." in subject or ":" in subject:
        # ValueError if it is none.
        network = ipaddress.ip_network(subject, strict=False)
        return encode((1, action), (3, str(network)))
    return encode((1, action), (2, peer_bytes(subject)))


def _limit(limit: Limit) -> bytes:
    return encode(
        (1, peer_bytes(limit.peer) if limit.peer else None),
        (2, name(limit.protocol) if limit.protocol else None),
        (3, limit.receive),
        (4, limit.send),
        (5, limit.connections),
        (6, limit.streams),
    )


def _known(fields: Fields) -> KnownPeer:
    return KnownPeer(
        id=base58(fields.raw(1)),
        connected=fields.flag(2),
        agent=_text(fields, 3),
        protocols=tuple(fields.texts(4)),
        addresses=tuple(
            KnownAddress(
                addr_text(one.raw(1)),
                one.number(2) / 1000,
                one.number(3) / 1000 or None,
                one.flag(4),
            )
            for one in fields.messages(5)
        ),
    )


def _peer(fields: Fields, number: int) -> Optional[str]:
    return base58(fields.raw(number)) if fields.has(number) else None


def _text(fields: Fields, number: int) -> Optional[str]:
    return fields.text(number) if fields.has(number) else None


def _number(fields: Fields, number: int) -> Optional[int]:
    return fields.number(number) if fields.has(number) else None


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
