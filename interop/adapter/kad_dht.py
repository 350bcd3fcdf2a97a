"""The kad-dht matrix: a provider record and a value, told by one participant and found by another.

Its keys are texts, and no multihashes: p2pd's PROVIDE and FIND_PROVIDERS take CIDs and cannot name
them. So the daemon looks up who is close to a key (GET_CLOSEST_PEERS takes any), and this program
speaks Kademlia to those, on streams that the daemon opens. Values go through PUT_VALUE and
GET_VALUE, or, where the daemon's validators refuse the namespace, the same way.
"""

import time

import multiaddr
from control import GET_CLOSEST_PEERS, PUT_VALUE, Refused
from daemon import Daemon
from failure import Deadline, Failure
from multiaddr import split_peer
from protobuf import fields, first, message
from redis import Redis

# The matrix ends a test after 180 s; the reason has to be out before that.
TIMEOUT = 170
PROTOCOL = "/ipfs/kad/1.0.0"
VERB_GET_VALUE = 5
GET_VALUE_MESSAGE, PUT_VALUE_MESSAGE, ADD_PROVIDER, GET_PROVIDERS = 1, 0, 2, 3
# Seconds for one request to one peer.
REQUEST = 10
# In the table of three participants hardly anything is out of reach.
MOST_PEERS = 16
VALUE = b"hello from p2pd client"
EXPECTED = b"hello from"


def run(environment, _words):
    role = environment.choice("ROLE", among=tuple(ROLES))
    deadline = Deadline(environment.timeout(TIMEOUT))
    key = environment.text("TEST_KEY")
    redis = Redis(environment.redis(), deadline)
    ROLES[role](environment, deadline, redis, key)


def start(environment, deadline, redis, mode):
    """A daemon that listens where the partners can reach it."""
    # Otherwise only /pk and /ipns have validators.
    optional = ["-dhtNamespace=example"]
    flags = [mode, f"-hostAddrs=/ip4/{redis.own_ip()}/tcp/0"]
    return Daemon(environment, deadline, flags, optional)


def bootstrap(environment, deadline, redis, key):
    with start(environment, deadline, redis, "-dhtServer") as daemon:
        redis.set(f"{key}_bootstrap_addr", daemon.address(redis.own_ip(), "tcp"))
        serve(daemon, deadline, redis, f"{key}_provider_done")


def provider(environment, deadline, redis, key):
    target = redis.poll(f"{key}_bootstrap_addr")
    with start(environment, deadline, redis, "-dhtServer") as daemon:
        network = Network(daemon, deadline, target)
        network.provide(f"interop-test-key-{key}".encode())
        network.put(f"/example/data/{key}".encode(), VALUE)
        redis.set(f"{key}_provider_done", "done")
        serve(daemon, deadline, redis, None)


def querier(environment, deadline, redis, key):
    target = redis.poll(f"{key}_bootstrap_addr")
    redis.poll(f"{key}_provider_done")
    try:
        with start(environment, deadline, redis, "-dhtClient") as daemon:
            network = Network(daemon, deadline, target)
            network.find_providers(f"interop-test-key-{key}".encode())
            network.get(f"/example/data/{key}".encode())
    except Failure as failure:
        print(f"error: {failure}\nstatus: fail", flush=True)
        raise
    print("status: pass", flush=True)


ROLES = {"bootstrap": bootstrap, "provider": provider, "querier": querier}


def serve(daemon, deadline, redis, awaited):
    """Serves until the matrix ends this program. It is a failure if nobody used it by then."""
    while not deadline.is_over():
        daemon.require_alive()
        if awaited and redis.call("EXISTS", awaited):
            awaited = None
        time.sleep(min(0.5, deadline.left()))
    if awaited:
        raise Failure(f"no provider was done within {deadline.seconds:g} s")


class Network:
    """The DHT as this participant sees it, once it is connected to the bootstrap node."""

    def __init__(self, daemon, deadline, target):
        self.daemon = daemon
        self.control = daemon.control
        self.deadline = deadline
        try:
            address, self.bootstrap = split_peer(target)
        except ValueError as error:
            raise Failure(f"the bootstrap node's address: {error}") from None
        self.control.connect(self.bootstrap, [address])

    def _closest(self, key):
        """Peers close to `key`, the bootstrap node always among them."""
        peers = [self.bootstrap]
        try:
            seconds = max(1, int(min(REQUEST, self.deadline.left())))
            found = self.control.dht(GET_CLOSEST_PEERS, key=key, timeout=seconds)
        except Refused:
            # The table may still be empty.
            found = []
        for told in found:
            # Some daemons answer with the bare id, some with id and addresses.
            peer = first(told, 3) or first(fields(first(told, 2, b"")), 1)
            if peer and peer not in peers and peer != self.daemon.peer:
                peers.append(peer)
        return peers[:MOST_PEERS]

    def _ask(self, peer, request, wants_answer=True):
        """The answer of one peer, or None."""
        try:
            with self.control.open(peer, PROTOCOL, REQUEST) as stream:
                stream.socket.settimeout(min(REQUEST, max(0.1, self.deadline.left())))
                stream.send(request)
                return fields(stream.receive()) if wants_answer else {}
        except (OSError, EOFError, ValueError, Failure):
            return None

    def _providers(self, key):
        request = message((1, GET_PROVIDERS), (2, key), (10, 0))
        found = []
        for peer in self._closest(key):
            answer = self._ask(peer, request) or {}
            found += [first(fields(told), 1) for told in answer.get(9, [])]
        return found

    def provide(self, key):
        _, addresses = self.control.identify()
        me = [(1, self.daemon.peer), *((2, multiaddr.to_bytes(one)) for one in addresses), (3, 1)]
        request = message((1, ADD_PROVIDER), (2, key), (9, message(*me)), (10, 0))

        def told_back():
            # There is no answer to wait for: only asking shows that the record has arrived.
            for peer in self._closest(key):
                self._ask(peer, request, wants_answer=False)
            return self.daemon.peer in self._providers(key) or None

        self.deadline.poll("the provider record was kept by nobody", told_back, 1)

    def find_providers(self, key):
        self.deadline.poll("no providers found", lambda: self._providers(key) or None, 1)

    def put(self, key, value):
        record = message((1, key), (2, value))
        request = message((1, PUT_VALUE_MESSAGE), (2, key), (3, record), (10, 0))

        def stored():
            try:
                self.control.dht(PUT_VALUE, key=key, value=value, timeout=REQUEST)
                return True
            except Refused:
                answers = [self._ask(peer, request) for peer in self._closest(key)]
                return any(answer is not None for answer in answers) or None

        self.deadline.poll("the value was stored by nobody", stored, 1)

    def get(self, key):
        request = message((1, GET_VALUE_MESSAGE), (2, key), (10, 0))

        def found():
            values = []
            try:
                told = self.control.dht(VERB_GET_VALUE, key=key, timeout=REQUEST)
                values = [first(one, 3, b"") for one in told]
            except Refused:
                for peer in self._closest(key):
                    record = first(self._ask(peer, request) or {}, 3, b"")
                    values.append(first(fields(record), 2, b""))
            return next((value for value in values if EXPECTED in value), None)

        self.deadline.poll("the value was not found", found, 1)
