"""What can go wrong. The text is the daemon's own, which is Go's; the type is what to branch on."""

from __future__ import annotations

from typing import Tuple, Type

import anyio


class DaemonError(Exception):
    """The daemon refused a request, or cannot be asked. `text` is what it said."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class NotEnabled(DaemonError):
    """The daemon runs without what the request needs: `DHT not enabled`, `PubSub not enabled`."""


class NotSupported(DaemonError):
    """The daemon does not know the request, because it is older or another program."""


class InvalidRequest(DaemonError):
    """A parameter is wrong."""


class PeerUnreachable(DaemonError):
    """The peer could not be dialed, or is not known."""


class ProtocolNotSupported(DaemonError):
    """The peer speaks none of the protocols."""


class Timeout(DaemonError, TimeoutError):
    """The time given to the request is over."""


class NotFound(DaemonError):
    """The DHT has no such peer, value or key; or there is no such handler."""


class NoPeers(DaemonError):
    """The DHT knows nobody to ask."""


class AlreadyExists(DaemonError):
    """There is another handler of that protocol, another validator of that topic, or the port is taken."""


class PermissionDenied(DaemonError):
    """The daemon does not serve this user or address."""


class LimitReached(DaemonError):
    """The daemon has no room for it: a limit named in SECURITY.md."""


class MessageRejected(DaemonError):
    """The validator of the topic rejected the message."""


class MessageIgnored(DaemonError):
    """The validator of the topic ignored the message, or did not answer in time."""


class RecordRefused(DaemonError):
    """The validator of its namespace refused the record, or did not answer in time."""


class CallFailed(DaemonError):
    """The peer's handler answered with an error; `text` is the handler's."""


class DaemonUnavailable(DaemonError, ConnectionError):
    """Nobody answers at the control socket, or the daemon could not be started."""


class ConnectionLost(DaemonUnavailable):
    """The daemon ended before it answered. Whether it obeyed is not known."""


class StreamReset(DaemonError, anyio.BrokenResourceError):
    """The stream takes no more bytes: it was reset, or the other side is gone."""


_Table = Tuple[Tuple[str, Type[DaemonError]], ...]

# The first that stands in the text. Ends of texts, since causes stand last.
_ENDS: _Table = (
    ("context deadline exceeded", Timeout),
    ("validation failed", MessageRejected),
    ("validation ignored", MessageIgnored),
    ("failed to find any peer in table", NoPeers),
    ("not enabled", NotEnabled),
    ("not found", NotFound),
    ("does not exist", NotFound),
    ("already set", AlreadyExists),
    ("is served by the daemon itself", AlreadyExists),
    ("address already in use", AlreadyExists),
    ("daemon is shutting down", ConnectionLost),
    ("not supported", NotSupported),
    ("is not listened on", NotFound),
    ("is not announced", NotFound),
    ("no such limit", NotFound),
)
_STARTS: _Table = (
    ("Unexpected request", NotSupported),
    ("Malformed request", InvalidRequest),
    ("permission denied", PermissionDenied),
    ("duplicate validator", AlreadyExists),
    ("no verdict from the validator", RecordRefused),
    ("record refused by the validator", RecordRefused),
    ("invalid network", InvalidRequest),
    ("too many", LimitReached),
    ("no rule for", NotFound),
)
_INSIDE: _Table = (
    ("limit reached", LimitReached),
    ("limit exceeded", LimitReached),
    ("gater disallows connection", PermissionDenied),
    ("too many streams", LimitReached),
    ("protocols not supported", ProtocolNotSupported),
    ("all dials failed", PeerUnreachable),
    ("failed to parse", InvalidRequest),
)
_LAST: _Table = (
    ("failed to dial", PeerUnreachable),
    ("no addresses", PeerUnreachable),
    ("not connected", PeerUnreachable),
)


def from_text(text: str) -> DaemonError:
    """The exception for what a daemon said."""
    for part, kind in _STARTS:
        if text.startswith(part):
            return kind(text)
    for part, kind in _INSIDE:
        if part in text:
            return kind(text)
    for part, kind in _ENDS:
        if text.endswith(part):
            return kind(text)
    for part, kind in _LAST:
        if part in text:
            return kind(text)
    return DaemonError(text)
