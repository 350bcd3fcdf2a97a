"""A web server beside one daemon, reached by a port beside the other."""

import anyio
import rp2pd

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def answer(connection):
    async with connection:
        await connection.receive()
        await connection.send(b"HTTP/1.0 200 OK\r\n\r\nhello from the other side\n")


async def main():
    server = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = server.extra(anyio.abc.SocketAttribute.local_port)
    async with server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, answer)
        async with rp2pd.Daemon(host_addrs=LOCAL) as alice, rp2pd.Daemon(host_addrs=LOCAL) as bob:
            await alice.connect(bob)
            async with bob.expose("/x/web", port, allow=[alice.peer_id]):
                async with alice.forward(bob.peer_id, "/x/web") as tunnel:
                    async with await anyio.connect_tcp("127.0.0.1", tunnel.port) as web:
                        await web.send(b"GET / HTTP/1.0\r\n\r\n")
                        page = b""
                        async for part in web:
                            page += part
                        print(page.decode().splitlines()[-1])
                    print((await bob.tunnels())[0].total, "connection")
        tasks.cancel_scope.cancel()


anyio.run(main)
