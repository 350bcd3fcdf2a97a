// One case of `@libp2p/daemon-client` against two daemons:
//   node client.mjs <case> <control address a> <control address b> [case argument]
// Exits 0 if the case holds; otherwise the error is on stderr.

import './node20.mjs'
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { createClient } from '@libp2p/daemon-client'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { controlAddress } from './address.mjs'

const CHUNK = 64 * 1024

const [name, controlA, controlB, argument] = process.argv.slice(2)
const a = createClient(controlAddress(controlA))
const b = createClient(controlAddress(controlB))

const sha256 = () => createHash('sha256')

// Messages are Uint8Arrays or lists of them.
const bytesOf = (message) => message.subarray()

async function send (stream, bytes) {
  for (let at = 0; at < bytes.length; at += CHUNK) {
    if (!stream.send(bytes.subarray(at, at + CHUNK))) {
      await stream.onDrain()
    }
  }
  // Drained is not yet handed over: the rest of the buffer follows in later ticks.
  while (stream.writeBufferLength > 0) {
    await setImmediate()
  }
}

// The digest of the next `length` bytes.
async function digest (stream, length) {
  const hash = sha256()
  let seen = 0
  for await (const message of stream) {
    const bytes = bytesOf(message)
    hash.update(bytes)
    seen += bytes.length
    if (seen >= length) {
      break
    }
  }
  assert.equal(seen, length, 'bytes received')
  return hash.digest('hex')
}

// Daemon b echoes the next stream on `protocol` through this process.
async function echoOnB (protocol) {
  let failed
  const done = new Promise((resolve, reject) => { failed = { resolve, reject } })
  await b.registerStreamHandler(protocol, async (stream) => {
    try {
      for await (const message of stream) {
        if (!stream.send(bytesOf(message))) {
          await stream.onDrain()
        }
      }
      failed.resolve()
    } catch (error) {
      failed.reject(error)
    }
  })
  return done
}

async function connect () {
  const { peerId, addrs } = await b.identify()
  await a.connect(peerId, addrs)
  return peerId
}

async function listed (client, count) {
  const deadline = Date.now() + 10_000
  for (;;) {
    const peers = await client.listPeers()
    if (peers.length === count || Date.now() > deadline) {
      assert.equal(peers.length, count, 'peers listed')
      return peers
    }
  }
}

async function until (holds) {
  const deadline = Date.now() + 10_000
  while (!await holds()) {
    assert.ok(Date.now() < deadline, 'no such state in 10 s')
  }
}

async function echo (protocol, size) {
  const peer = await connect()
  const echoed = echoOnB(protocol)
  echoed.catch(() => {})
  // Registration is answered before anything else is asked of b.
  await b.identify()
  const bytes = randomBytes(size)
  const stream = await a.openStream(peer, protocol)
  const [, seen] = await Promise.all([send(stream, bytes), digest(stream, size)])
  assert.equal(seen, sha256().update(bytes).digest('hex'), 'checksum of the echo')
  await stream.close()
}

const cases = {
  async identify () {
    const { peerId, addrs } = await a.identify()
    assert.equal(peerId.toString(), argument)
    assert.ok(addrs.length > 0, 'addresses')
  },

  async connect_and_list_peers () {
    assert.equal((await a.listPeers()).length, 0)
    const peer = await connect()
    assert.ok((await listed(a, 1))[0].equals(peer))
    const own = await a.identify()
    assert.ok((await listed(b, 1))[0].equals(own.peerId))
    await b.connect(own.peerId, own.addrs)
    assert.equal((await a.listPeers()).length, 1, 'one entry per peer')
  },

  async connect_refuses_a_wrong_peer () {
    const { addrs } = await b.identify()
    const stranger = peerIdFromPrivateKey(await generateKeyPair('Ed25519'))
    await assert.rejects(a.connect(stranger, addrs), { name: 'OperationFailedError' })
    await assert.rejects(a.connect(stranger, [multiaddr('/ip4/127.0.0.1/tcp/1')]),
      { name: 'OperationFailedError' })
  },

  async open_stream_refuses_an_unknown_protocol () {
    const peer = await connect()
    await assert.rejects(a.openStream(peer, '/nobody/speaks/this'),
      { name: 'OperationFailedError', message: /protocols not supported/ })
  },

  async echo () {
    await echo('/interop/echo/1.0.0', Number(argument))
  },

  async echo_slashless () {
    await echo('DHTProtocol.rpc_ping', Number(argument))
  },

  async pubsub () {
    const topic = 'a topic'
    assert.deepEqual(await a.pubsub.getTopics(), [])
    const peer = await connect()
    assert.deepEqual(await a.pubsub.getSubscribers(topic), [])
    const own = await a.pubsub.subscribe(topic)
    const other = await b.pubsub.subscribe(topic)
    assert.deepEqual(await a.pubsub.getTopics(), [topic])
    await until(async () => {
      const subscribers = await a.pubsub.getSubscribers(topic)
      return subscribers.length === 1 && subscribers[0].equals(peer)
    })
    const { peerId } = await a.identify()
    for (const data of [randomBytes(3), randomBytes(Number(argument)), new Uint8Array()]) {
      await a.pubsub.publish(topic, data)
      for (const subscription of [own, other]) {
        const { value } = await subscription.messages().next()
        assert.deepEqual(Buffer.from(value.data), Buffer.from(data))
        assert.deepEqual(Buffer.from(value.from), Buffer.from(peerId.toMultihash().bytes))
        assert.deepEqual(value.topicIDs, [topic])
        assert.equal(value.seqno.length, 8)
      }
    }
    await assert.rejects(a.pubsub.publish(topic, new Uint8Array(1024 * 1024)),
      { name: 'OperationFailedError' })
    await own.cancel()
    await until(async () => (await a.pubsub.getTopics()).length === 0)
  },

  // The handler of `/interop/late/1.0.0` at b belongs to the caller: it answers with the
  // length and hex sha256 of all it received, and only after this side has ended.
  async half_close () {
    const peer = await connect()
    const bytes = randomBytes(Number(argument))
    const stream = await a.openStream(peer, '/interop/late/1.0.0')
    await send(stream, bytes)
    // The client has no method that ends one direction; its socket has.
    stream.socket.end()
    let reply = ''
    for await (const message of stream) {
      reply += Buffer.from(bytesOf(message)).toString()
    }
    assert.equal(reply, `${bytes.length} ${sha256().update(bytes).digest('hex')}`)
  }
}

await cases[name]()
process.exit(0)
