"""/ipfs/ping/1.0.0 through the control socket: the daemon at the other end answers by itself."""

import os
import time

from failure import Failure

PROTOCOL = "/ipfs/ping/1.0.0"
SIZE = 32


def ping(stream):
    """One round trip, in milliseconds."""
    sent = os.urandom(SIZE)
    begin = time.monotonic()
    try:
        stream.write(sent)
        got = stream.read_exactly(SIZE)
    except (OSError, EOFError) as error:
        raise Failure(f"ping: {str(error) or type(error).__name__}") from None
    if got != sent:
        raise Failure("ping: other bytes came back")
    return (time.monotonic() - begin) * 1000


def report(handshake, round_trip):
    """The results as the transport and hole-punch matrices read them."""
    print(
        f"latency:\n  handshake_plus_one_rtt: {handshake:.3f}\n"
        f"  ping_rtt: {round_trip:.3f}\n  unit: ms",
        flush=True,
    )
