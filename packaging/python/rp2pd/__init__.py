"""The libp2p daemon rp2pd: its binary in this environment, and a client.

The client needs anyio; `find_rp2pd_bin` needs nothing, so the client is imported when it is used.
"""

from typing import TYPE_CHECKING, Any

from ._find import find_rp2pd_bin

if TYPE_CHECKING:
    from ._control import (
        EVERY_PEER,
        KnownAddress,
        KnownPeer,
        Limit,
        Listener,
        Probed,
        Rule,
        Traffic,
    )
    from ._daemon import Daemon
    from ._feed import Feed
    from ._ids import cid_of
    from ._node import Node, connect
    from ._stream import Stream
    from ._tunnels import Tunnel, TunnelInfo
    from ._types import Connection, Event, EventKind, Message, PeerInfo, Verdict
    from ._validator import Validator
    from .errors import (
        AlreadyExists,
        CallFailed,
        ConnectionLost,
        DaemonError,
        DaemonUnavailable,
        InvalidRequest,
        LimitReached,
        MessageIgnored,
        MessageRejected,
        NoPeers,
        NotEnabled,
        NotFound,
        NotSupported,
        PeerUnreachable,
        PermissionDenied,
        ProtocolNotSupported,
        RecordRefused,
        StreamReset,
        Timeout,
    )

_PLACES = {
    "_control": (
        "EVERY_PEER",
        "KnownAddress",
        "KnownPeer",
        "Limit",
        "Listener",
        "Probed",
        "Rule",
        "Traffic",
    ),
    "_daemon": ("Daemon",),
    "_feed": ("Feed",),
    "_ids": ("cid_of",),
    "_node": ("Node", "connect"),
    "_stream": ("Stream",),
    "_tunnels": ("Tunnel", "TunnelInfo"),
    "_types": ("Connection", "Event", "EventKind", "Message", "PeerInfo", "Verdict"),
    "_validator": ("Validator",),
    "errors": (
        "AlreadyExists",
        "CallFailed",
        "ConnectionLost",
        "DaemonError",
        "DaemonUnavailable",
        "InvalidRequest",
        "LimitReached",
        "MessageIgnored",
        "MessageRejected",
        "NoPeers",
        "NotEnabled",
        "NotFound",
        "NotSupported",
        "PeerUnreachable",
        "PermissionDenied",
        "ProtocolNotSupported",
        "RecordRefused",
        "StreamReset",
        "Timeout",
    ),
}

__all__ = [
    "AlreadyExists",
    "CallFailed",
    "Connection",
    "ConnectionLost",
    "Daemon",
    "DaemonError",
    "DaemonUnavailable",
    "EVERY_PEER",
    "Event",
    "EventKind",
    "Feed",
    "InvalidRequest",
    "KnownAddress",
    "KnownPeer",
    "Limit",
    "LimitReached",
    "Listener",
    "Message",
    "MessageIgnored",
    "MessageRejected",
    "NoPeers",
    "Node",
    "NotEnabled",
    "NotFound",
    "NotSupported",
    "PeerInfo",
    "PeerUnreachable",
    "PermissionDenied",
    "Probed",
    "ProtocolNotSupported",
    "RecordRefused",
    "Rule",
    "Stream",
    "StreamReset",
    "Timeout",
    "Traffic",
    "Tunnel",
    "TunnelInfo",
    "Validator",
    "Verdict",
    "cid_of",
    "connect",
    "find_rp2pd_bin",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
