"""The transport matrix: dial, handshake, ping."""

import json
import time

from daemon import Daemon
from failure import Deadline, Failure
from links import Link
from multiaddr import split_peer
from ping import PROTOCOL, ping, report
from redis import Redis

# The matrix ends a test after 180 s; the reason has to be out before that.
TIMEOUT = 170
KEY = "listener_multiaddr"
LEGACY_KEY = "listenerAddr"


def run(environment, _words):
    is_dialer = environment.flag("IS_DIALER", "is_dialer")
    link = Link(environment)
    deadline = Deadline(environment.timeout(TIMEOUT))
    key = environment.key(KEY, LEGACY_KEY)
    ip = environment.text("LISTENER_IP", "ip", default="0.0.0.0")
    redis = Redis(environment.redis(), deadline)
    if is_dialer:
        dial(environment, link, deadline, redis, key)
    else:
        listen(environment, link, deadline, redis, key, ip)


def dial(environment, link, deadline, redis, key):
    target = redis.wait(key)
    try:
        address, peer = split_peer(target)
    except ValueError as error:
        raise Failure(f"the listener's address: {error}") from None
    with Daemon(environment, deadline, [*link.flags, "-noListenAddrs"]) as daemon:
        begin = time.monotonic()
        daemon.control.connect(peer, [address])
        with daemon.control.open(peer, PROTOCOL) as stream:
            first = ping(stream)
            handshake = (time.monotonic() - begin) * 1000
            round_trip = min(first, ping(stream))
    if environment.is_legacy():
        # Three l's: the older runner reads it so.
        results = {"handshakePlusOneRTTMillis": handshake, "pingRTTMilllis": round_trip}
        print(json.dumps(results), flush=True)
    else:
        report(handshake, round_trip)


def listen(environment, link, deadline, redis, key, ip):
    with Daemon(environment, deadline, [*link.flags, link.listen(ip)]) as daemon:
        reachable = redis.own_ip() if ip in ("0.0.0.0", "::") else ip
        redis.push(key, daemon.address(reachable, *link.names()))
        stay(daemon, redis, deadline)


def stay(daemon, redis, deadline):
    """Serves until the matrix ends this program. Nobody having come by the deadline is a failure,
    and so is the loss of Redis before anybody could read the address there."""
    has_come = False
    while not deadline.is_over():
        daemon.require_alive()
        has_come = has_come or bool(daemon.control.peers())
        if not has_come:
            redis.ping()
        time.sleep(min(0.5, deadline.left()))
    if not has_come:
        raise Failure(f"no dialer came within {deadline.seconds:g} s")
