"""A running daemon, as a program uses it."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Type, TypeVar, Union

import anyio

from ._background import Background, log
from ._calls import CallHandler, Calls
from ._control import Announced, Limits, Listeners, Peerstore, Probed, Rules, Traffic, probe
from ._dht import Dht, seconds
from ._feed import Feed
from ._ids import base58, peer_bytes
from ._multiaddr import addr_bytes, addr_text
from ._protobuf import Fields, encode, name
from ._pubsub import PubSub
from ._session import IDENTIFY, Session
from ._stream import Handler, Stream, StreamHandlers, opened
from . import _tunnels
from ._tunnels import TUNNEL, Place, Tunnel, TunnelInfo
from ._types import KINDS, Event, EventKind, PeerInfo, event, peer_info
from ._wire import Frames, address_parts
from .errors import DaemonError

CONNECT, STREAM_OPEN, LIST_PEERS, CONNMANAGER, DISCONNECT = 1, 2, 5, 6, 7
PEERSTORE, STATUS, EVENTS = 9, 100, 101
_TAG, _UNTAG, _TRIM = 0, 1, 2
_PROTOCOLS, _ADDRESSES = 1, 2

H = TypeVar("H", bound=Callable[..., Any])


class Node:
    """A daemon behind its control socket; `rp2pd.connect()` and `rp2pd.Daemon()` make it.

    Use it in `async with`. Requests wait up to `patience` seconds for a daemon that is restarting;
    handlers, subscriptions, validators and event streams resume by themselves. A request that the
    daemon did not answer before it ended raises ConnectionLost, and is not repeated.
    """

    def __init__(
        self, control: str, *, listen: Optional[str] = None, patience: float = 30.0
    ) -> None:
        address_parts(control)
        self.control = control
        self._session = Session(control, patience)
        self._tasks = Background()
        self._handlers = StreamHandlers(self._session, self._tasks, listen)
        self._calls = Calls(self._session, self._tasks)
        self._stack = AsyncExitStack()
        self._wanted: List[Callable[[], Any]] = []
        self._refused: Optional[DaemonError] = None
        self._registering = anyio.Lock()
        self.dht = Dht(self._session, self._tasks)
        self.pubsub = PubSub(self._session, self._tasks)
        self.announced = Announced(self._session)
        self.listeners = Listeners(self._session)
        self.rules = Rules(self._session)
        self.limits = Limits(self._session)
        self.peerstore = Peerstore(self._session)

    async def __aenter__(self) -> "Node":
        async with AsyncExitStack() as stack:
            stack.callback(self._handlers.close)
            await stack.enter_async_context(self._tasks)
            held = await self._session.establish(0)
            self._tasks.spawn(self._session.watch, held)
            stack.push_async_callback(self._session.close_feeds)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    # The daemon itself.

    @property
    def peer_id(self) -> str:
        """Of the daemon that is there now."""
        return base58(self._session.identity.raw(1))

    @property
    def addresses(self) -> List[str]:
        """As the daemon told them when it was last asked; `identify()` asks again."""
        return [addr_text(one) for one in self._session.identity.all(2)]

    async def identify(self) -> PeerInfo:
        """The daemon's peer id and its addresses now."""
        self._session.identity = (await self._request(IDENTIFY)).message(4)
        return peer_info(self._session.identity)

    async def status(self) -> Dict[str, Any]:
        """What all layers of the daemon know; COMPATIBILITY.md 4.29 names it."""
        document: Dict[str, Any] = json.loads((await self._request(STATUS)).raw(100))
        return document

    def events(self, *kinds: EventKind, present: bool = False) -> "Feed[Event]":
        """What happens, of the kinds that are named or of all.

        With `present` it begins with what is there already. DAEMON_LOST and DAEMON_BACK stand where
        the daemon was restarted; with `present` what is there then follows.
        """
        numbers = [KINDS.index(kind) for kind in kinds if kind in KINDS]
        if kinds and not numbers:
            # Only what this package tells. No kind at all would stand for all.
            numbers = [KINDS.index(EventKind.MISSED)]
        request = encode((1, numbers), (2, present))

        async def begin(frames: Frames) -> None:
            await frames.ask(EVENTS, (101, request))

        async def read(frames: Frames) -> Event:
            while True:
                one = event((await frames.receive()).message(101))
                if one is not None:
                    return one

        def tell(back: bool) -> Event:
            return Event(EventKind.DAEMON_BACK if back else EventKind.DAEMON_LOST, time.time())

        return Feed(self._session, begin, read, resumes=True, tell=tell)

    async def traffic(
        self, peers: Iterable[str] = (), protocols: Iterable[str] = ()
    ) -> List[Traffic]:
        """What has moved of connected peers and of protocols; of all if none is named."""
        return await self.peerstore.traffic(peers, protocols)

    async def probe(
        self, peer: Optional[str] = None, *addresses: str, timeout: float = 30.0
    ) -> List[Probed]:
        """What each address answers: the given ones, and with a peer those that are known of it.

        Nobody is connected afterwards. `timeout` is for all of them together, up to 60 seconds.
        """
        return await probe(self._session, peer, addresses, timeout)

    # Peers.

    async def connect(
        self,
        peer: Union[str, PeerInfo, "Node"],
        addresses: Iterable[str] = (),
        *,
        timeout: Optional[float] = None,
    ) -> str:
        """Connects with a peer, and gives its id.

        `peer` is an id with `addresses`, a PeerInfo, another node, or an address that ends in
        `/p2p/ID`. PeerUnreachable or Timeout if that fails.
        """
        known = [addresses] if isinstance(addresses, str) else list(addresses)
        info = await peer.identify() if isinstance(peer, Node) else peer
        if isinstance(info, PeerInfo):
            target = info.id
            known += info.addresses
        elif info.startswith("/"):
            address, _, target = info.rpartition("/p2p/")
            known.append(address)
        else:
            target = info
        fields = encode(
            (1, peer_bytes(target)),
            (2, [addr_bytes(one) for one in known if one]),
            (3, seconds(timeout)),
        )
        await self._request(CONNECT, (2, fields))
        return target

    async def disconnect(self, peer: str) -> None:
        """Closes all connections with a peer."""
        await self._request(DISCONNECT, (7, encode((1, peer_bytes(peer)))))

    async def peers(self) -> List[PeerInfo]:
        """Connected peers, with the addresses of their connections."""
        return [peer_info(one) for one in (await self._request(LIST_PEERS)).messages(6)]

    async def known_protocols(self, peer: str) -> List[str]:
        """What a peer speaks, as it said."""
        found = await self._peerstore(_PROTOCOLS, peer)
        return found.texts(2)

    async def known_addresses(self, peer: str) -> List[str]:
        """Addresses of a peer that the daemon knows."""
        found = await self._peerstore(_ADDRESSES, peer)
        return list(peer_info(found.message(1)).addresses)

    async def tag(self, peer: str, tag: str, weight: int) -> None:
        """Gives a peer a tag. When connections are trimmed, those of the lowest sums go first."""
        await self._manage((1, _TAG), (2, peer_bytes(peer)), (3, name(tag)), (4, weight))

    async def untag(self, peer: str, tag: str) -> None:
        await self._manage((1, _UNTAG), (2, peer_bytes(peer)), (3, name(tag)))

    async def trim(self) -> None:
        """Closes connections down to the low mark."""
        await self._manage((1, _TRIM))

    # Streams.

    async def open_stream(
        self, peer: str, *protocols: str, timeout: Optional[float] = None
    ) -> Stream:
        """A stream by the first of the protocols that the peer speaks."""
        await self._register()
        fields = encode(
            (1, peer_bytes(peer)), (2, [name(one) for one in protocols]), (3, seconds(timeout))
        )
        frames = await self._session.open()
        try:
            return opened(frames, await frames.ask(STREAM_OPEN, (3, fields)))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await frames.aclose()
            raise

    async def serve(
        self, protocols: Union[str, Sequence[str]], handler: Handler, *, balanced: Optional[bool] = None
    ) -> None:
        """Has `handler` called with each stream that a peer opens; it is closed when that returns.

        Any other handler of the protocol is replaced, unless `balanced` is False (AlreadyExists) or
        True (they take turns). An exception of the handler is logged.
        """
        names = [protocols] if isinstance(protocols, str) else protocols
        await self._handlers.add([name(one) for one in names], handler, balanced)

    async def unserve(self, *protocols: str) -> None:
        """Streams that run go on."""
        await self._handlers.remove([name(one) for one in protocols])

    def handle(self, *protocols: str) -> Callable[[H], H]:
        """`serve()` as a decorator. Done before the next request; what it is refused with is raised there."""

        def take(handler: H) -> H:
            return self._later(handler, lambda: self.serve(protocols, handler))

        return take

    # Tunnels.

    def forward(
        self,
        peer: str,
        protocol: str,
        listen: Place = 0,
        *,
        addresses: Iterable[str] = (),
        users: Iterable[int] = (),
        any_interface: bool = False,
        networks: Iterable[str] = (),
        connections: Optional[int] = None,
        keep: bool = False,
    ) -> Tunnel:
        """A port beside the daemon that leads to what a peer exposes: `async with node.forward(...) as tunnel`.

        `listen` is a port of loopback, any free one unless given, or a multiaddr: `/unix/PATH`, which
        `users` (uid) may connect to, or with `any_interface` another address, which `networks` may.
        With `keep` it stays when the block ends, until `close_tunnels()` or the daemon's end.
        """
        return _tunnels.forward(
            self._session, peer, protocol, listen, addresses, users, any_interface, networks, connections, keep
        )

    def expose(
        self,
        protocol: str,
        target: Place,
        allow: Iterable[str] = (),
        *,
        any_peer: bool = False,
        connections: Optional[int] = None,
        keep: bool = False,
    ) -> Tunnel:
        """Lets the peers of `allow` use a service beside the daemon: `async with node.expose(...)`.

        `target` is a port of loopback or a multiaddr. AlreadyExists if the protocol has a handler.
        """
        return _tunnels.expose(self._session, protocol, target, allow, any_peer, connections, keep)

    async def tunnels(self) -> List[TunnelInfo]:
        """All tunnels of the daemon."""
        return _tunnels.infos(await self._request(TUNNEL, (105, _tunnels.list_request())))

    async def close_tunnels(self, *ids: int) -> None:
        """Ends tunnels and their connections. NotFound if one is not there: none is ended then."""
        await self._request(TUNNEL, (105, _tunnels.close_request(ids)))

    # Calls.

    async def call(self, peer: str, protocol: str, data: bytes) -> bytes:
        """The answer of a peer's handler. CallFailed with its text if it raised.

        Cancelled if the caller is. It runs over a persistent connection: a daemon that was started
        by other means without `-stayAlive` ends when the last of those closes.
        """
        await self._register()
        return await self._calls.call(peer, protocol, data)

    async def serve_calls(
        self, protocol: str, handler: CallHandler, *, balanced: bool = False
    ) -> None:
        """Answers calls by `await handler(peer, data)`; cancelled if the caller gives up.

        AlreadyExists if there is a handler, unless both are `balanced`: they take turns then.
        """
        await self._calls.add(protocol, handler, balanced)

    async def unserve_calls(self, protocol: str) -> None:
        await self._calls.remove(protocol)

    def answer(self, protocol: str) -> Callable[[H], H]:
        """`serve_calls()` as a decorator, as `handle()` is one."""

        def take(handler: H) -> H:
            return self._later(handler, lambda: self.serve_calls(protocol, handler))

        return take

    # Inside.

    def _later(self, handler: H, register: Callable[[], Any]) -> H:
        self._wanted.append(register)
        self._tasks.spawn(self._register_now)
        return handler

    async def _register_now(self) -> None:
        async with self._registering:
            while self._wanted:
                try:
                    await self._wanted.pop(0)()
                except DaemonError as error:
                    log.error("a handler was refused: %s", error)
                    self._refused = error

    async def _register(self) -> None:
        await self._register_now()
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused

    async def _request(self, kind: int, *fields: Tuple[int, bytes]) -> Fields:
        await self._register()
        return await self._session.request(kind, *fields)

    async def _peerstore(self, kind: int, peer: str) -> Fields:
        fields = encode((1, kind), (2, peer_bytes(peer)))
        return (await self._request(PEERSTORE, (9, fields))).message(8)

    async def _manage(self, *fields: "Tuple[int, Union[int, bytes]]") -> None:
        await self._request(CONNMANAGER, (6, encode(*fields)))


def connect(control: str = "/unix/tmp/p2pd.sock", *, listen: Optional[str] = None, patience: float = 30.0) -> Node:
    """A daemon that runs already: `async with rp2pd.connect("/unix/tmp/p2pd.sock") as node`.

    `listen` is where inbound streams are brought, `/ip4/HOST/tcp/PORT`; a private unix socket unless
    given, or loopback if the control address is tcp.
    """
    return Node(control, listen=listen, patience=patience)
