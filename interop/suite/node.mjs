// A js-libp2p node behind `@libp2p/daemon-server`, as js-libp2p's own runner makes it.

import { readFileSync } from 'node:fs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import { createClient } from '@libp2p/daemon-client'
import { createServer } from '@libp2p/daemon-server'
import { floodsub } from '@libp2p/floodsub'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { UnsupportedError } from '@libp2p/interop'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { mplex } from '@libp2p/mplex'
import { ping } from '@libp2p/ping'
import { plaintext } from '@libp2p/plaintext'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webRTCDirect } from '@libp2p/webrtc'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

// js-libp2p uses it; Node has it from version 22.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((...both) => { [resolve, reject] = both })
  return { promise, resolve, reject }
}

const LISTEN = { tcp: '/ip4/127.0.0.1/tcp/0', 'webrtc-direct': '/ip4/127.0.0.1/udp/0/webrtc-direct' }
const ENCRYPTERS = { noise, tls, plaintext }

function services (options) {
  const dht = () => kadDHT({ protocol: '/ipfs/kad/1.0.0', peerInfoMapper: passthroughMapper, clientMode: false })
  const router = options.pubsubRouter === 'floodsub' ? floodsub : gossipsub
  return {
    identify: identify(),
    ping: ping(),
    ...(options.pubsub === true ? { pubsub: router() } : {}),
    ...(options.relay === true ? { relay: circuitRelayServer() } : {}),
    ...(options.dht === true ? { dht: dht() } : {})
  }
}

export async function spawnNode (options) {
  const address = LISTEN[options.transport ?? 'tcp']
  if (address == null) {
    throw new UnsupportedError()
  }
  const node = await createLibp2p({
    privateKey: options.key == null ? undefined : privateKeyFromProtobuf(readFileSync(options.key)),
    addresses: { listen: options.noListen === true ? [] : [address] },
    transports: [tcp(), circuitRelayTransport(), webRTCDirect()],
    streamMuxers: [(options.muxer === 'mplex' ? mplex : yamux)()],
    connectionEncrypters: [ENCRYPTERS[options.encryption ?? 'noise']()],
    services: services(options)
  })
  const server = createServer(multiaddr('/ip4/127.0.0.1/tcp/0'), node)
  await server.start()
  return {
    client: createClient(server.getMultiaddr()),
    stop: async () => {
      await server.stop()
      await node.stop()
    }
  }
}
