// A js-libp2p node for the matrix on this machine:
//   ping.mjs listen TRANSPORT SECURITY MUXER          prints its address, serves until it is ended
//   ping.mjs dial TRANSPORT SECURITY MUXER ADDRESS    prints two numbers, in milliseconds: from
//                                                     the dial to the first answer, one round trip

import './node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { mplex } from '@libp2p/mplex'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const [job, transport, security, muxer, address] = process.argv.slice(2)
const suffix = transport === 'ws' ? '/ws' : ''
const node = await createLibp2p({
  addresses: { listen: job === 'listen' ? [`/ip4/127.0.0.1/tcp/0${suffix}`] : [] },
  transports: [transport === 'ws' ? webSockets() : tcp()],
  connectionEncrypters: [security === 'tls' ? tls() : noise()],
  streamMuxers: [muxer === 'mplex' ? mplex() : yamux()],
  connectionGater: { denyDialMultiaddr: async () => false },
  services: { identify: identify(), ping: ping() }
})

if (job === 'listen') {
  console.log(node.getMultiaddrs()[0].toString())
} else {
  const target = multiaddr(address)
  const signal = AbortSignal.timeout(60_000)
  const begin = performance.now()
  await node.dial(target, { signal })
  const roundTrip = await node.services.ping.ping(target, { signal })
  console.log(performance.now() - begin, roundTrip)
  await node.stop()
  process.exit(0)
}
