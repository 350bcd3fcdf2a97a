"""What requests give back. Peer ids are base58, addresses multiaddrs as text."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional, Tuple

from ._ids import base58
from ._multiaddr import addr_text
from ._protobuf import Fields


@dataclass(frozen=True)
class PeerInfo:
    """A peer and addresses of it."""

    id: str
    addresses: Tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """A message of a topic. `author` signed it; who sent it on is not told."""

    topics: Tuple[str, ...]
    data: bytes
    author: Optional[str]
    seqno: bytes


class Verdict(enum.IntEnum):
    """What a validator says of a message."""

    ACCEPT = 0
    # Dropped, and the peer that sent it is punished.
    REJECT = 1
    # Dropped, and nobody is punished.
    IGNORE = 2


class EventKind(str, enum.Enum):
    """What has happened; PROTOCOL.md 2 says which fields each kind has."""

    # The reader was too slow: `count` events were dropped here.
    MISSED = "missed"
    PEER_CONNECTED = "peer connected"
    PEER_IDENTIFIED = "peer identified"
    PEER_DISCONNECTED = "peer disconnected"
    ADDRESSES = "addresses"
    REACHABILITY = "reachability"
    HANDLER_FAILED = "handler failed"
    TOPIC_JOINED = "topic joined"
    TOPIC_LEFT = "topic left"
    LIMIT = "limit"
    TUNNEL_FAILED = "tunnel failed"
    # These two come from this package, never from the daemon. What happened in between is not known.
    DAEMON_LOST = "daemon lost"
    DAEMON_BACK = "daemon back"


KINDS = tuple(EventKind)[:11]
_CAUSES = ("unknown", "local", "remote", "timeout", "broken")
_REACH = ("unknown", "public", "private")


@dataclass(frozen=True)
class Connection:
    """A connection between two daemons."""

    id: int
    address: str
    dialed: bool
    relayed: bool


@dataclass(frozen=True)
class Event:
    """Something that has happened. Fields that the kind does not have are None or empty."""

    kind: EventKind
    # Seconds after 1970-01-01 UTC.
    time: float
    peer: Optional[str] = None
    connection: Optional[Connection] = None
    connections: Optional[int] = None
    # "local", "remote", "timeout" or "broken".
    cause: Optional[str] = None
    reason: Optional[str] = None
    # A stranger's text.
    agent: Optional[str] = None
    protocols: Tuple[str, ...] = ()
    addresses: Tuple[str, ...] = ()
    # "unknown", "public" or "private".
    reachability: Optional[str] = None
    protocol: Optional[str] = None
    topic: Optional[str] = None
    limit: Optional[str] = None
    count: Optional[int] = None
    # It tells what was there before the request.
    present: bool = False


def peer_info(fields: Fields) -> PeerInfo:
    return PeerInfo(base58(fields.raw(1)), tuple(addr_text(one) for one in fields.all(2)))


def message(fields: Fields) -> Message:
    author = fields.raw(1)
    return Message(
        topics=tuple(fields.texts(4)),
        data=fields.raw(2),
        author=base58(author) if author else None,
        seqno=fields.raw(3),
    )


def event(fields: Fields) -> Optional[Event]:
    """None if its kind is not known here."""
    kind = fields.number(1)
    if kind >= len(KINDS):
        return None

    def text(number: int) -> Optional[str]:
        return fields.text(number) if fields.has(number) else None

    def count(number: int) -> Optional[int]:
        return fields.number(number) if fields.has(number) else None

    def named(number: int, names: Tuple[str, ...]) -> Optional[str]:
        value = count(number)
        return names[value] if value is not None and value < len(names) else None

    of = fields.message(4)
    connection = Connection(of.number(1), addr_text(of.raw(2)), of.flag(3), of.flag(4))
    return Event(
        kind=KINDS[kind],
        time=fields.number(2) / 1e6,
        peer=base58(fields.raw(3)) if fields.has(3) else None,
        connection=connection if fields.has(4) else None,
        connections=count(5),
        cause=named(6, _CAUSES),
        reason=text(7),
        agent=text(8),
        protocols=tuple(fields.texts(9)),
        addresses=tuple(addr_text(one) for one in fields.all(10)),
        reachability=named(11, _REACH),
        protocol=text(12),
        topic=text(13),
        limit=text(14),
        count=count(15),
        present=fields.flag(16),
    )
