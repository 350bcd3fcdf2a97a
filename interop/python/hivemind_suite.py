"""Hivemind's own networking modules against the daemon that lies in the package's place.

    hivemind_suite.py CASE...   prints a JSON object per case: its name and what went wrong
    hivemind_suite.py --hold    starts a daemon, prints its process id, waits to be killed
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import AsyncIterator

import hivemind_networking  # noqa: F401 - must come before hivemind
from hivemind.p2p import P2P, P2PContext, P2PDaemonError, P2PHandlerError, PeerID, ServicerBase
from hivemind.proto import runtime_pb2, test_pb2

PATIENCE = 60
# What hivemind's own tests give a cancelled handler.
SOON = 0.25
MIB = 1 << 20


class Service(ServicerBase):
    """Every kind of handler; counts what is cancelled."""

    def __init__(self, offset=0):
        self.offset = offset
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def rpc_unary(self, request: test_pb2.TestRequest, context: P2PContext) -> test_pb2.TestResponse:
        return test_pb2.TestResponse(number=request.number**2 + self.offset)

    async def rpc_sum(
        self, request: AsyncIterator[test_pb2.TestRequest], context: P2PContext
    ) -> test_pb2.TestResponse:
        return test_pb2.TestResponse(number=sum([item.number async for item in request]))

    async def rpc_count(
        self, request: test_pb2.TestRequest, context: P2PContext
    ) -> AsyncIterator[test_pb2.TestResponse]:
        for number in range(request.number):
            yield test_pb2.TestResponse(number=number)

    async def rpc_squares(
        self, request: AsyncIterator[test_pb2.TestRequest], context: P2PContext
    ) -> AsyncIterator[test_pb2.TestResponse]:
        async for item in request:
            yield test_pb2.TestResponse(number=item.number**2)

    async def rpc_echo(self, request: runtime_pb2.Tensor, context: P2PContext) -> runtime_pb2.Tensor:
        return request

    async def rpc_echo_stream(
        self, request: AsyncIterator[runtime_pb2.Tensor], context: P2PContext
    ) -> AsyncIterator[runtime_pb2.Tensor]:
        async for item in request:
            yield item

    async def rpc_fail(self, request: test_pb2.TestRequest, context: P2PContext) -> test_pb2.TestResponse:
        raise ValueError(f"no {request.number}")

    async def rpc_fail_late(
        self, request: test_pb2.TestRequest, context: P2PContext
    ) -> AsyncIterator[test_pb2.TestResponse]:
        yield test_pb2.TestResponse(number=1)
        raise ValueError("late")

    async def rpc_who(self, request: test_pb2.TestRequest, context: P2PContext) -> runtime_pb2.Tensor:
        names = [context.handle_name, context.local_id.to_base58(), context.remote_id.to_base58()]
        return runtime_pb2.Tensor(buffer="\n".join(names).encode())

    async def rpc_wait(self, request: test_pb2.TestRequest, context: P2PContext) -> test_pb2.TestResponse:
        await self._forever()
        return test_pb2.TestResponse()

    async def rpc_wait_stream(
        self, request: test_pb2.TestRequest, context: P2PContext
    ) -> AsyncIterator[test_pb2.TestResponse]:
        yield test_pb2.TestResponse(number=0)
        await self._forever()

    async def _forever(self):
        self.started.set()
        try:
            await asyncio.Future()
        finally:
            self.cancelled.set()


def number(value):
    return test_pb2.TestRequest(number=value)


async def numbers(values):
    for value in values:
        yield number(value)


async def tensors(buffers):
    for buffer in buffers:
        yield runtime_pb2.Tensor(buffer=buffer)


@contextlib.asynccontextmanager
async def daemons(count, **options):
    """Daemons of which each is connected to the first."""
    started = []
    try:
        for _ in range(count):
            started.append(await P2P.create(**options))
        for p2p in started[1:]:
            await connect(p2p, started[0])
        yield started
    finally:
        for p2p in started:
            await p2p.shutdown()


async def connect(p2p, other):
    _, addrs = await other._client.identify()
    await p2p._client.connect(other.peer_id, addrs)


@contextlib.asynccontextmanager
async def serving(**options):
    """A client, a server, the service there and the client's stub of it."""
    async with daemons(2, **options) as (server, client):
        service = Service()
        await service.add_p2p_handlers(server)
        yield client, server, service, Service.get_stub(client, server.peer_id)


async def fails(kind, text, awaitable):
    try:
        result = await awaitable
    except kind as error:
        assert text in str(error), f"{text!r} is not in {error!r}"
        return
    raise AssertionError(f"no {kind.__name__} but {result!r}")


async def within(seconds, awaitable):
    return await asyncio.wait_for(awaitable, seconds)


async def start_and_stop():
    p2p = await P2P.create()
    control = p2p.daemon_listen_maddr["unix"]
    assert os.path.exists(control)
    addrs = await p2p.get_visible_maddrs(latest=True)
    assert addrs and all(addr["p2p"] == str(p2p.peer_id) for addr in addrs), addrs
    child = p2p._child
    await within(10, p2p.shutdown())
    assert child.returncode == 0, child.returncode
    assert not os.path.exists(control)


async def unary_both_ways():
    async with serving() as (client, server, _, stub):
        back = Service(offset=5)
        await back.add_p2p_handlers(client)
        stub_back = Service.get_stub(server, client.peer_id)
        for value in range(20):
            assert (await stub.rpc_unary(number(value))).number == value**2
            assert (await stub_back.rpc_unary(number(value))).number == value**2 + 5


async def every_kind_of_streaming():
    async with serving() as (_, _, _, stub):
        assert (await stub.rpc_sum(numbers(range(10)))).number == 45
        counted = [item.number async for item in await stub.rpc_count(number(10))]
        assert counted == list(range(10)), counted
        squares = [item.number async for item in await stub.rpc_squares(numbers(range(10)))]
        assert squares == [value**2 for value in range(10)], squares
        assert [item async for item in await stub.rpc_count(number(0))] == []


async def caller_and_name_are_told():
    async with serving() as (client, server, _, stub):
        told = (await stub.rpc_who(number(0))).buffer.decode().split("\n")
        assert told == ["Service.rpc_who", str(server.peer_id), str(client.peer_id)], told


async def exceptions_reach_the_caller():
    async with serving() as (_, _, _, stub):
        await fails(P2PHandlerError, "ValueError('no 7')", stub.rpc_fail(number(7)))
        responses = await stub.rpc_fail_late(number(0))
        assert (await responses.__anext__()).number == 1
        await fails(P2PHandlerError, "late", responses.__anext__())
        assert (await stub.rpc_unary(number(3))).number == 9


async def a_cancelled_call_cancels_its_handler():
    async with serving() as (_, _, service, stub):
        for _ in range(5):
            service.started.clear()
            service.cancelled.clear()
            call = asyncio.create_task(stub.rpc_wait(number(0)))
            await within(PATIENCE, service.started.wait())
            call.cancel()
            await within(SOON, service.cancelled.wait())
            await fails(asyncio.CancelledError, "", call)
        assert (await stub.rpc_unary(number(3))).number == 9


async def a_closed_stream_cancels_its_handler():
    async with serving() as (_, _, service, stub):
        responses = await stub.rpc_wait_stream(number(0))
        assert (await responses.__anext__()).number == 0
        await within(PATIENCE, service.started.wait())
        await responses.aclose()
        await within(SOON, service.cancelled.wait())


async def a_timeout_cancels_its_handler():
    async with serving() as (_, _, service, stub):
        await fails(asyncio.TimeoutError, "", stub.rpc_wait(number(0), timeout=0.2))
        await within(SOON, service.cancelled.wait())


async def many_calls_at_once():
    async with serving() as (_, _, _, stub):
        results = await asyncio.gather(*(stub.rpc_unary(number(value)) for value in range(1000)))
        assert [result.number for result in results] == [value**2 for value in range(1000)]


async def large_messages():
    async with serving() as (_, _, _, stub):
        for size in (0, 1, 64 * 1024, MIB, 4 * MIB - 256):
            sent = os.urandom(size)
            answer = await stub.rpc_echo(runtime_pb2.Tensor(buffer=sent))
            assert answer.buffer == sent, size
        # What is larger travels by streams.
        sent = [os.urandom(8 * MIB) for _ in range(2)]
        got = [item.buffer async for item in await stub.rpc_echo_stream(tensors(sent))]
        assert got == sent
        too_large = runtime_pb2.Tensor(buffer=bytes(4 * MIB))
        await fails(P2PDaemonError, "exceeds", stub.rpc_echo(too_large))


async def the_message_limit_is_passed_on():
    limit = 8 * MIB
    async with serving(persistent_conn_max_msg_size=limit) as (_, _, _, stub):
        sent = os.urandom(limit - 256)
        assert (await stub.rpc_echo(runtime_pb2.Tensor(buffer=sent))).buffer == sent


async def binary_streams():
    async def echo(info, reader, writer):
        with contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async with daemons(2) as (server, client):
        await server.add_binary_stream_handler("echo", echo)
        info, reader, writer = await client.call_binary_stream_handler(server.peer_id, "echo")
        assert (info.peer_id, info.proto) == (server.peer_id, "echo")
        sent = os.urandom(4 * MIB)
        writer.write(sent)
        assert await within(PATIENCE, reader.readexactly(len(sent))) == sent
        writer.close()
        await server.remove_binary_stream_handler("echo")
        await fails(P2PDaemonError, "", client.call_binary_stream_handler(server.peer_id, "echo"))


async def replicas_share_the_daemon():
    async with daemons(2) as (server, client):
        replica = await P2P.replicate(server.daemon_listen_maddr)
        assert replica.peer_id == server.peer_id
        assert replica._child is None
        service = Service(offset=1)
        await service.add_p2p_handlers(replica)
        stub = Service.get_stub(client, server.peer_id)
        assert (await stub.rpc_unary(number(2))).number == 5
        # A replica calls as well, and its end takes its handlers alone.
        await Service(offset=2).add_p2p_handlers(client)
        back = Service.get_stub(replica, client.peer_id)
        assert (await back.rpc_unary(number(2))).number == 6
        await replica.shutdown()
        await refused(stub)
        await Service(offset=3).add_p2p_handlers(server, namespace="other")
        other = Service.get_stub(client, server.peer_id, namespace="other")
        assert (await other.rpc_unary(number(2))).number == 7


async def refused(stub):
    """The handlers of a connection go a moment after it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            await stub.rpc_unary(number(1))
        except P2PDaemonError:
            return
    raise AssertionError("the handler is still there")


async def balanced_replicas_take_turns():
    async with daemons(2) as (server, client):
        replicas = [server] + [await P2P.replicate(server.daemon_listen_maddr) for _ in range(2)]
        for offset, replica in enumerate(replicas):
            await Service(offset=offset).add_p2p_handlers(replica, balanced=True)
        stub = Service.get_stub(client, server.peer_id)
        answers = [(await stub.rpc_unary(number(0))).number for _ in range(30)]
        assert sorted(answers) == [0] * 10 + [1] * 10 + [2] * 10, answers
        # Streams take turns too; those of a replica that has gone open and end.
        summed = [(await stub.rpc_sum(numbers([1, 2]))).number for _ in range(6)]
        assert summed == [3] * 6, summed
        await replicas[2].shutdown()
        await asyncio.sleep(0.1)
        answers = {(await stub.rpc_unary(number(0))).number for _ in range(10)}
        assert answers == {0, 1}, answers
        await replicas[1].shutdown()


async def a_handler_is_added_once():
    async with daemons(2) as (server, client):
        await Service().add_p2p_handlers(server)
        await fails(P2PDaemonError, "already", Service().add_p2p_handlers(server))
        replica = await P2P.replicate(server.daemon_listen_maddr)
        await fails(P2PDaemonError, "already set", Service().add_p2p_handlers(replica))
        await replica.shutdown()
        stub = Service.get_stub(client, server.peer_id)
        assert (await stub.rpc_unary(number(2))).number == 4


async def a_removed_handler_is_refused():
    async with daemons(2) as (server, client):
        service = Service()
        await service.add_p2p_handlers(server)
        stub = Service.get_stub(client, server.peer_id)
        assert (await stub.rpc_unary(number(2))).number == 4
        await service.remove_p2p_handlers(server)
        await fails(P2PDaemonError, "protocols not supported", stub.rpc_unary(number(2)))
        await fails(P2PDaemonError, "", stub.rpc_sum(numbers([1])))
        await service.add_p2p_handlers(server)
        assert (await stub.rpc_unary(number(3))).number == 9


async def calls_that_cannot_be_made_fail():
    async with daemons(1) as (p2p,):
        await Service().add_p2p_handlers(p2p)
        stub = Service.get_stub(p2p, p2p.peer_id)
        await fails(P2PDaemonError, "dial to self attempted", stub.rpc_unary(number(1)))
        nobody = PeerID.from_base58("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
        stub = Service.get_stub(p2p, nobody)
        await fails(P2PDaemonError, "failed to", stub.rpc_unary(number(1)))


async def a_server_that_dies_fails_its_calls():
    async with serving() as (_, server, service, stub):
        call = asyncio.create_task(stub.rpc_wait(number(0)))
        await within(PATIENCE, service.started.wait())
        server._child.kill()
        await fails(P2PDaemonError, "", within(5, call))


async def peers_are_listed_and_left():
    async with daemons(3) as (first, second, third):
        await first.wait_for_at_least_n_peers(2)
        listed = {info.peer_id for info in await first.list_peers()}
        assert listed == {second.peer_id, third.peer_id}
        await first._client.disconnect(second.peer_id)
        assert second.peer_id not in {info.peer_id for info in await first.list_peers()}
        assert first.peer_id not in {info.peer_id for info in await second.list_peers()}


async def an_identity_is_kept():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "identity")
        first = await P2P.create(identity_path=path)
        await first.shutdown()
        second = await P2P.create(identity_path=path)
        assert first.peer_id == second.peer_id == PeerID.from_identity(Path(path).read_bytes())
        await second.shutdown()
        other = await P2P.create()
        assert other.peer_id != first.peer_id
        await other.shutdown()


async def a_swarm_is_joined_through_its_peers():
    async with daemons(1) as (first,):
        await Service().add_p2p_handlers(first)
        peers = await first.get_visible_maddrs()
        joined = [await P2P.create(initial_peers=peers) for _ in range(3)]
        for p2p in joined:
            stub = Service.get_stub(p2p, first.peer_id)
            assert (await stub.rpc_unary(number(3))).number == 9
        # They know each other's addresses from the first one alone.
        await Service(offset=1).add_p2p_handlers(joined[0])
        stub = Service.get_stub(joined[1], joined[0].peer_id)
        assert (await stub.rpc_unary(number(3))).number == 10
        for p2p in joined:
            await p2p.shutdown()
    gone = [str(addr) for addr in peers]
    await fails(P2PDaemonError, "failed to connect to bootstrap peers", P2P.create(initial_peers=gone))


async def an_identity_in_use_is_refused():
    async with daemons(1) as (first,):
        peers = await first.get_visible_maddrs()
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "identity")
            for mode in ("server", "client"):
                holder = await P2P.create(identity_path=path, initial_peers=peers, dht_mode=mode)
                again = P2P.create(identity_path=path, initial_peers=peers)
                await fails(P2PDaemonError, "already taken by another peer", again)
                await holder.shutdown()
            # It is free once its holder has gone.
            again = await P2P.create(identity_path=path, initial_peers=peers)
            assert again.peer_id == holder.peer_id
            await again.shutdown()


async def a_failed_start_tells_why():
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "identity")
        Path(path).write_bytes(b"no key")
        await fails(P2PDaemonError, "Daemon failed to start: ", P2P.create(identity_path=path))
    for addrs, reason in (
        (["/ip4/203.0.113.1/tcp/0"], "failed to listen on any addresses"),
        (["/ip4/127.0.0.1/tcp/99999"], "invalid value"),
    ):
        await fails(P2PDaemonError, reason, P2P.create(host_maddrs=addrs))
    relay = dict(use_auto_relay=True, use_relay=False)
    await fails(P2PDaemonError, "can't have autorelay", P2P.create(**relay))
    # On a busy machine the daemon may be ready before hivemind's own clock has been looked at.
    for _ in range(10):
        try:
            early = await P2P.create(startup_timeout=0.0001)
        except P2PDaemonError as error:
            assert "Daemon failed to start in 0.0" in str(error), repr(error)
            break
        await early.shutdown()
    else:
        raise AssertionError("no start took longer than 0.1 ms")


async def the_daemon_goes_with_a_killed_python():
    holder = subprocess.Popen([sys.executable, __file__, "--hold"], stdout=subprocess.PIPE, text=True)
    pid, control, own = holder.stdout.readline().split()
    assert os.path.exists(f"/proc/{pid}")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    killed = time.monotonic()
    while is_alive(pid):
        assert time.monotonic() - killed < 5, "the daemon outlives its client"
        await asyncio.sleep(0.01)
    assert not os.path.exists(control), "the socket file is left behind"
    # That of the killed client is nobody's any more.
    os.unlink(own)


async def a_daemon_without_a_client_ends():
    started = time.monotonic()
    # Enough for a busy machine to get from the start to the first connection.
    idle = 5
    p2p = await P2P.create(idle_timeout=idle)
    # This one has its client, and stays beyond its time.
    while time.monotonic() - started < idle + 1:
        await p2p._client.identify()
        await asyncio.sleep(0.05)
    await p2p.shutdown()

    async def no_client(*args, **kwargs):
        raise RuntimeError("the client never comes")

    import hivemind.p2p.p2p_daemon as module

    create, module.p2pclient.Client.create = module.p2pclient.Client.create, no_client
    children = []
    spawn = asyncio.subprocess.create_subprocess_exec

    async def remember(*args, **kwargs):
        children.append(await spawn(*args, **kwargs))
        return children[-1]

    asyncio.subprocess.create_subprocess_exec = remember
    try:
        await fails(RuntimeError, "never comes", P2P.create(idle_timeout=1))
    finally:
        module.p2pclient.Client.create = create
        asyncio.subprocess.create_subprocess_exec = spawn
    await within(PATIENCE, children[0].wait())
    # asyncio says 255 where something else has asked for the code first; this is who knows it.
    ended = children[0]._transport.get_extra_info("subprocess").returncode
    assert ended == 0, f"exit code {ended}"


async def with_relays_a_node_without_listeners_is_reached():
    took = await reached(True)
    assert took is not None, "nobody is reached"
    print(f"reached after {took:.1f} s", file=sys.stderr)


async def without_relays_a_node_without_listeners_is_not_reached():
    took = await reached(False)
    assert took is None, f"reached after {took} s"


async def reached(relays):
    """Seconds until a daemon calls one that listens nowhere, or None: hivemind's relay test.

    Both know a third one that is public, and nothing of each other.
    """
    options = dict(use_relay=relays, use_auto_relay=relays)
    async with contextlib.AsyncExitStack() as started:

        async def start(**more):
            p2p = await P2P.create(**options, **more)
            started.push_async_callback(p2p.shutdown)
            return p2p

        public = await start(force_reachability="public")
        peers = await public.get_visible_maddrs()
        hidden = await start(initial_peers=peers, host_maddrs=[], no_listen=True)
        await Service().add_p2p_handlers(hidden)
        # hivemind's test lets that node be alone with the public one for so long.
        await asyncio.sleep(5)
        caller = await start(initial_peers=peers)
        assert not (await hidden._client.identify())[1]
        stub = Service.get_stub(caller, hidden.peer_id)
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            try:
                answer = await stub.rpc_unary(number(3), timeout=3)
            except (P2PDaemonError, asyncio.TimeoutError):
                await asyncio.sleep(0.5)
                continue
            assert answer.number == 9
            return time.monotonic() - begun
        return None


def is_alive(pid):
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def hold():
    p2p = await P2P.create()
    await Service().add_p2p_handlers(p2p)
    while not os.path.exists(p2p._client_listen_maddr["unix"]):
        await asyncio.sleep(0.01)
    paths = [p2p.daemon_listen_maddr["unix"], p2p._client_listen_maddr["unix"]]
    print(p2p._child.pid, *paths, flush=True)
    await asyncio.Future()


async def log_lines_are_understood():
    class Watch(logging.Handler):
        records = []

        def emit(self, record):
            self.records.append(record)

    watch = Watch()
    # Of all daemons started here every line is read.
    os.environ["GOLOG_LOG_LEVEL"] = "debug"
    logger = logging.getLogger("hivemind.p2p.p2p_daemon")
    level = logger.level
    logger.addHandler(watch)
    logger.setLevel(logging.DEBUG)
    try:
        async with serving() as (_, _, _, stub):
            for _ in range(20):
                await fails(P2PHandlerError, "", stub.rpc_fail(number(1)))
            await asyncio.sleep(0.2)
    finally:
        del os.environ["GOLOG_LOG_LEVEL"]
        logger.removeHandler(watch)
        logger.setLevel(level)
    wrong = [record.getMessage() for record in watch.records if "parse" in record.getMessage()]
    assert not wrong, wrong
    from_daemon = [record for record in watch.records if hasattr(record, "origin_created")]
    assert from_daemon, "no log line of the daemon was seen"


async def timed(case):
    await asyncio.wait_for(case(), 2 * PATIENCE)


def main(names):
    if names == ["--hold"]:
        asyncio.run(hold())
        return
    for name in names:
        wrong = None
        try:
            asyncio.run(timed(globals()[name]))
        except BaseException:
            wrong = traceback.format_exc()
        print(json.dumps({"case": name, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
