"""A py-libp2p node that serves the DHT, for the interop tests.

    py_kad_node.py LISTEN

Prints its address, then answers requests until stdin ends: one JSON list per line, a word and
its arguments, bytes in hexadecimal; each answer is one JSON line, `{"ok": ...}` or
`{"error": "..."}`.

Keys go to the library as bytes. Its methods for values take text, and what it stores itself
under `/pk/` has a key of its own kind, the digits of the id; so `put` and `get` here are what
those methods do on the network and no more.
"""

import json
import logging
import sys

import trio
from libp2p import new_host
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

PATIENCE = 30


class Node:
    def __init__(self, host, dht):
        self.host = host
        self.dht = dht

    async def connect(self, address):
        info = info_from_p2p_addr(Multiaddr(address))
        await self.host.connect(info)
        await self.dht.routing_table.add_peer(info)

    async def provide(self, key):
        return await self.dht.provider_store.provide(bytes.fromhex(key))

    async def providers(self, key):
        found = await self.dht.provider_store.find_providers(bytes.fromhex(key))
        return [info.peer_id.to_base58() for info in found]

    async def find(self, peer):
        info = await self.dht.find_peer(ID.from_base58(peer))
        return [] if info is None else [str(address) for address in info.addrs]

    async def closest(self, key):
        peers = await self.dht.peer_routing.find_closest_peers_network(bytes.fromhex(key))
        return [peer.to_base58() for peer in peers]

    async def put(self, key, value):
        key, value = bytes.fromhex(key), bytes.fromhex(value)
        stored = 0
        for peer in await self.others(key):
            stored += await self.dht.value_store._store_at_peer(peer, key, value)
        return stored

    async def get(self, key):
        key = bytes.fromhex(key)
        for peer in await self.others(key):
            if value := await self.dht.value_store._get_from_peer(peer, key):
                return value.hex()
        return None

    async def others(self, key):
        peers = await self.dht.peer_routing.find_closest_peers_network(key)
        return [peer for peer in peers if peer != self.host.get_id()]


async def answer(node, line):
    word, *arguments = json.loads(line)
    try:
        with trio.fail_after(PATIENCE):
            return {"ok": await getattr(node, word)(*arguments)}
    except Exception as error:
        return {"error": repr(error)}


async def main(listen):
    host = new_host(listen_addrs=[listen])
    async with host.run(listen_addrs=[listen]):
        dht = KadDHT(host, DHTMode.SERVER)
        async with background_trio_service(dht):
            node = Node(host, dht)
            print(host.get_addrs()[0], flush=True)
            while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
                print(json.dumps(await answer(node, line)), flush=True)


if __name__ == "__main__":
    # The library reports every closed connection as an error with its traceback.
    logging.disable(logging.CRITICAL)
    trio.run(main, Multiaddr(sys.argv[1]))
