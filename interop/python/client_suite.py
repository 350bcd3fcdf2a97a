"""The client of the package rp2pd: what its examples do not show.

Usage: client_suite.py asyncio|trio. Prints the name of each case that has passed.
"""

import functools
import os
import signal
import socket
import sys

import anyio
import rp2pd
from rp2pd import EventKind, Verdict

LOCAL = "/ip4/127.0.0.1/tcp/0"
Local = functools.partial(rp2pd.Daemon, host_addrs=LOCAL, pubsub=True)


async def kill(daemon, node):
    """Kills the daemon, and waits for the next."""
    async with node.events(EventKind.DAEMON_LOST) as events:
        os.kill(daemon.pid, signal.SIGKILL)
        assert (await events.__anext__()).kind == EventKind.DAEMON_LOST
        assert (await events.__anext__()).kind == EventKind.DAEMON_BACK


async def everything_resumes():
    """Twice: what was put back once must be put back again."""
    daemon = Local(dht=True)
    async with daemon as alice, Local() as bob:

        async def hello(stream):
            await stream.send(b"hello " + stream.peer.encode())

        async def double(peer, data):
            return data * 2

        async def judge(message, peer):
            return Verdict.IGNORE if message.data == b"spam" else Verdict.ACCEPT

        peer = alice.peer_id
        async def right(key, value):
            return value != b"wrong" or "this is wrong"

        await alice.serve("/hello", hello)
        await alice.serve_calls("/double", double)
        await alice.pubsub.validate("t", judge, deadline=20)
        await alice.dht.validate("app", right, deadline=20)
        async with alice.pubsub.subscribe("t") as messages:
            for run in range(3):
                if run:
                    await kill(daemon, alice)
                assert alice.peer_id == peer
                await bob.connect(alice)
                async with await bob.open_stream(peer, "/hello") as stream:
                    assert await stream.read_all() == b"hello " + bob.peer_id.encode()
                assert await bob.call(peer, "/double", b"ab") == b"abab"
                try:
                    await alice.pubsub.publish("t", b"spam")
                    raise AssertionError("the validator does not judge")
                except rp2pd.MessageIgnored:
                    pass
                try:
                    await alice.dht.put_value("/app/key", b"wrong")
                    raise AssertionError("the validator of records does not judge")
                except rp2pd.DaemonError as error:
                    assert error.text == "this is wrong", error.text
                await alice.pubsub.publish("t", b"%d" % run)
                assert (await messages.__anext__()).data == b"%d" % run


async def what_is_under_way_fails():
    daemon = Local()
    async with daemon as alice, Local() as bob:
        began = anyio.Event()
        failed = []

        async def wait(peer, data):
            began.set()
            await anyio.sleep_forever()

        async def ask():
            try:
                await alice.call(bob.peer_id, "/wait", b"")
            except rp2pd.ConnectionLost as error:
                failed.append(error)

        await bob.serve_calls("/wait", wait)
        await alice.connect(bob)
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await began.wait()
            await kill(daemon, alice)
        assert len(failed) == 1


async def a_cancelled_call_is_cancelled_there():
    async with Local() as alice, Local() as bob:
        began, ended = anyio.Event(), anyio.Event()

        async def wait(peer, data):
            began.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()

        await bob.serve_calls("/wait", wait)
        await alice.connect(bob)
        async with anyio.create_task_group() as group:
            group.start_soon(alice.call, bob.peer_id, "/wait", b"")
            await began.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(30):
            await ended.wait()


async def streams_carry_much_both_ways():
    data = os.urandom(1 << 20) * 8
    async with Local() as alice, Local() as bob:

        @bob.handle("/back")
        async def back(stream):
            async for chunk in stream:
                await stream.send(chunk)

        await bob.identify()
        await alice.connect(bob)
        async with await alice.open_stream(bob.peer_id, "/none", "/back") as stream:
            assert (stream.protocol, stream.peer) == ("/back", bob.peer_id)

            async def write():
                await stream.send(data)
                await stream.send_eof()

            async with anyio.create_task_group() as group:
                group.start_soon(write)
                assert await stream.read_all() == data
        # A write to whoever is gone is an error.
        @bob.handle("/gone")
        async def gone(stream):
            pass

        async with await alice.open_stream(bob.peer_id, "/gone") as stream:
            try:
                with anyio.fail_after(30):
                    while True:
                        await stream.send(bytes(65536))
            except rp2pd.StreamReset:
                pass


async def refusals_have_types():
    async with rp2pd.Daemon(no_listen_addrs=True) as node:

        async def refused(kind, request):
            try:
                await request
            except kind as error:
                assert error.text, error
                return
            raise AssertionError(f"no {kind.__name__}")

        async def nothing(stream):
            pass

        other = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
        await refused(rp2pd.NotEnabled, node.pubsub.publish("t", b""))
        await refused(rp2pd.NotEnabled, node.pubsub.validate("t", bool))
        await refused(rp2pd.NotEnabled, node.dht.get_value("/pk/x"))
        await refused(rp2pd.PeerUnreachable, node.connect(other, ["/ip4/127.0.0.1/tcp/1"]))
        await node.serve("/a", nothing, balanced=False)
        await refused(rp2pd.AlreadyExists, node.serve("/a", nothing, balanced=False))
        await node.unserve("/a")
        await refused(rp2pd.NotFound, node.unserve("/a"))
        # A listener that never answers.
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            addr = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{other}"
            await refused(rp2pd.Timeout, node.connect(addr, timeout=1))
        # A decorator's refusal comes with the next request.
        node.handle("/ipfs/id/1.0.0")(nothing)
        await refused(rp2pd.DaemonError, node.peers())
        assert await node.peers() == []


async def starts_that_fail_say_why():
    try:
        async with rp2pd.Daemon(host_addrs="nonsense"):
            raise AssertionError("it runs")
    except rp2pd.DaemonUnavailable as error:
        assert "nonsense" in error.text, error
    try:
        async with rp2pd.connect("/unix/nonexistent/p2pd.sock"):
            raise AssertionError("it is there")
    except rp2pd.DaemonUnavailable as error:
        assert "/nonexistent/p2pd.sock" in error.text, error


async def without_restarts_the_end_is_told():
    daemon = rp2pd.Daemon(no_listen_addrs=True, restart=False)
    async with daemon as node:
        os.kill(daemon.pid, signal.SIGKILL)
        try:
            with anyio.fail_after(30):
                while True:
                    await node.identify()
        except rp2pd.DaemonUnavailable:
            pass


async def the_bodys_exception_comes_through():
    daemon = rp2pd.Daemon(no_listen_addrs=True, listen="/ip4/127.0.0.1/tcp/0")
    # A daemon object may be used again.
    async with daemon as node:
        assert not node.control.endswith("/tcp/0"), node.control
    try:
        async with daemon:
            pid = daemon.pid
            raise KeyError("mine")
    except KeyError as error:
        assert error.args == ("mine",)
    try:
        os.kill(pid, 0)
        raise AssertionError("the daemon runs on")
    except ProcessLookupError:
        pass


async def peers_are_tagged_and_known():
    async with Local() as alice, Local() as bob:
        async with alice.events(EventKind.PEER_IDENTIFIED) as events:
            await alice.connect(f"{bob.addresses[0]}/p2p/{bob.peer_id}")
            with anyio.fail_after(30):
                event = await events.__anext__()
        assert event.peer == bob.peer_id and event.agent
        await alice.tag(bob.peer_id, "friend", 10)
        await alice.untag(bob.peer_id, "friend")
        await alice.trim()
        assert [peer.id for peer in await alice.peers()] == [bob.peer_id]
        assert "/ipfs/ping/1.0.0" in await alice.known_protocols(bob.peer_id)
        assert bob.addresses[0] in await alice.known_addresses(bob.peer_id)
        await alice.disconnect(bob.peer_id)
        assert await alice.peers() == []


async def echo(connection):
    async with connection:
        async for part in connection:
            await connection.send(part)


async def through(tunnel, data):
    async with await anyio.connect_tcp("127.0.0.1", tunnel.port) as socket:
        await socket.send(data)
        return await socket.receive()


async def tunnels_resume_and_end():
    server = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = server.extra(anyio.abc.SocketAttribute.local_port)
    async with server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, echo)
        daemon = Local()
        async with daemon as alice, Local() as bob:
            try:
                async with bob.expose("/x/echo", port):
                    raise AssertionError("it names nobody")
            except rp2pd.DaemonError as error:
                assert "allow names no peer" in error.text
            async with bob.expose("/x/echo", port, any_peer=True):
                async with alice.forward(bob.peer_id, "/x/echo", addresses=bob.addresses) as tunnel:
                    before = tunnel.address
                    for run in range(2):
                        if run:
                            await kill(daemon, alice)
                        assert await through(tunnel, b"%d" % run) == b"%d" % run
                    assert tunnel.address == before
                    try:
                        async with bob.expose("/x/echo", port, any_peer=True):
                            raise AssertionError("it is there already")
                    except rp2pd.AlreadyExists:
                        pass
                while await alice.tunnels():
                    await anyio.sleep(0.01)
                async with alice.forward(bob.peer_id, "/x/echo", keep=True) as kept:
                    pass
                assert await through(kept, b"kept") == b"kept"
                (info,) = await alice.tunnels()
                assert (info.kind, info.address, info.peer) == ("forward", kept.address, bob.peer_id)
                assert info.keep and info.total == 1 and info.received == 4
                await alice.close_tunnels(info.id)
                try:
                    await alice.close_tunnels(info.id)
                    raise AssertionError("it is closed")
                except rp2pd.NotFound:
                    pass
        tasks.cancel_scope.cancel()


async def listeners_and_announced_addresses_change():
    async with Local() as alice, Local() as bob:
        [first] = await alice.listeners.list()
        assert first.address == LOCAL and list(first.bound) == alice.addresses
        web = LOCAL + "/ws"
        second = (await alice.listeners.add(web))[-1]
        assert second.address == web
        assert second.bound[0] in (await alice.identify()).addresses
        await bob.connect(alice.peer_id, second.bound)
        assert await alice.listeners.remove(web) == [first]
        assert [peer.id for peer in await alice.peers()] == [bob.peer_id]
        taken = bob.addresses[0]
        try:
            await alice.listeners.add(LOCAL, taken)
            raise AssertionError("two daemons on one port")
        except rp2pd.DaemonError as error:
            assert error.text.endswith("bind: address already in use"), error.text
        assert await alice.listeners.list() == [first]
        told = "/dns4/example.com/tcp/4001"
        assert await alice.announced.add(told) == [told]
        assert (await alice.identify()).addresses == (told,)
        assert await alice.announced.remove(told) == await alice.announced.list() == []


async def peers_are_blocked_and_allowed():
    async with Local() as alice, Local() as bob:
        await alice.connect(bob)
        rules = await alice.rules.block(rp2pd.EVERY_PEER, "10.0.0.0/8")
        assert rules == [rp2pd.Rule("10.0.0.0/8", False), rp2pd.Rule(rp2pd.EVERY_PEER, False)]
        assert await alice.peers() == []
        try:
            await alice.connect(bob)
            raise AssertionError("every peer is blocked")
        except rp2pd.PermissionDenied:
            pass
        await alice.rules.allow(bob.peer_id)
        await alice.connect(bob)
        await alice.rules.remove("10.0.0.0/8", rp2pd.EVERY_PEER)
        assert await alice.rules.list() == [rp2pd.Rule(bob.peer_id, True)]
        try:
            await alice.rules.remove("192.0.2.0/24")
            raise AssertionError("there is no such rule")
        except rp2pd.NotFound:
            pass


async def traffic_is_counted_and_limited():
    async with Local() as alice, Local() as bob:

        @bob.handle("/sink")
        async def sink(stream):
            await stream.send(b"%d" % len(await stream.read_all()))

        await bob.identify()
        await alice.connect(bob)
        limit = rp2pd.Limit(peer=bob.peer_id, protocol="/sink", send=100_000, streams=1)
        assert await alice.limits.set(limit) == await alice.limits.list() == [limit]
        begun = anyio.current_time()
        async with await alice.open_stream(bob.peer_id, "/sink") as stream:
            try:
                await alice.open_stream(bob.peer_id, "/sink")
                raise AssertionError("a stream too many")
            except rp2pd.LimitReached:
                pass
            await stream.send(bytes(100_000))
            await stream.send_eof()
            assert await stream.read_all() == b"100000"
        assert anyio.current_time() - begun > 0.4
        [moved] = await alice.traffic(protocols=["/sink"])
        assert (moved.sent, moved.received, moved.peer) == (100_000, 6, None)
        [of_peer] = await alice.traffic([bob.peer_id])
        assert of_peer.sent >= 100_000 and of_peer.connections == 1
        assert len(await alice.traffic()) >= 2
        assert await alice.limits.remove(limit) == []


async def the_peerstore_and_addresses_are_looked_at():
    async with Local() as alice, Local() as bob:
        await alice.connect(bob)
        await alice.tag(bob.peer_id, "friend", -5)
        assert await alice.peerstore.tags() == {bob.peer_id: {"friend": -5}}
        found = [peer async for peer in alice.peerstore.find(agent="rp2pd/", connected=True)]
        assert [peer.id for peer in found] == [bob.peer_id]
        assert "/ipfs/ping/1.0.0" in found[0].protocols
        [address] = found[0].addresses
        assert address.proven and address.expires is None and address.address == bob.addresses[0]
        probed = await alice.probe(None, bob.addresses[0], "/ip4/127.0.0.1/tcp/1")
        assert [one.peer for one in probed] == [bob.peer_id, None]
        assert probed[0].error is None and "refused" in probed[1].error


CASES = [
    listeners_and_announced_addresses_change,
    peers_are_blocked_and_allowed,
    traffic_is_counted_and_limited,
    the_peerstore_and_addresses_are_looked_at,
    everything_resumes,
    what_is_under_way_fails,
    a_cancelled_call_is_cancelled_there,
    streams_carry_much_both_ways,
    refusals_have_types,
    starts_that_fail_say_why,
    without_restarts_the_end_is_told,
    the_bodys_exception_comes_through,
    peers_are_tagged_and_known,
    tunnels_resume_and_end,
]


async def main():
    for case in CASES:
        with anyio.fail_after(120):
            await case()
        print(case.__name__, flush=True)


anyio.run(main, backend=sys.argv[1])
