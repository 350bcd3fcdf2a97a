// A js-libp2p node behind `@libp2p/daemon-server`, started and announced as p2pd is:
//   node server.mjs -listen=<control> -hostAddrs=<a,b> [-noise=false] [-tls=false] [-dhtServer]
//     [-pubsub] [-pubsubRouter=floodsub] [-pnetKey=<file>] [-id=<file>]

import './node20.mjs'
import { readFileSync } from 'node:fs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import { createServer } from '@libp2p/daemon-server'
import { floodsub } from '@libp2p/floodsub'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { preSharedKey } from '@libp2p/pnet'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'
import { controlAddress } from './address.mjs'

const flags = Object.fromEntries(process.argv.slice(2).map((word) => {
  const [name, ...value] = word.replace(/^-+/, '').split('=')
  return [name, value.join('=')]
}))
const on = (name) => flags[name] !== 'false'

// Go's protocol and Go's habit of keeping loopback addresses.
const dht = () => kadDHT({
  protocol: '/ipfs/kad/1.0.0',
  clientMode: false,
  allowQueryWithZeroPeers: true,
  peerInfoMapper: passthroughMapper
})

const pubsub = () => {
  const options = { emitSelf: true, allowPublishToZeroTopicPeers: true }
  return (flags.pubsubRouter === 'floodsub' ? floodsub : gossipsub)(options)
}

const node = await createLibp2p({
  addresses: { listen: (flags.hostAddrs ?? '').split(',').filter(Boolean) },
  transports: [tcp(), webSockets()],
  connectionEncrypters: [...(on('noise') ? [noise()] : []), ...(on('tls') ? [tls()] : [])],
  streamMuxers: [yamux()],
  ...('id' in flags ? { privateKey: privateKeyFromProtobuf(readFileSync(flags.id)) } : {}),
  ...('pnetKey' in flags ? { connectionProtector: preSharedKey({ psk: readFileSync(flags.pnetKey) }) } : {}),
  services: {
    identify: identify(),
    ...('pubsub' in flags ? { pubsub: pubsub() } : {}),
    ...('dhtServer' in flags ? { ping: ping(), dht: dht() } : {})
  }
})
const daemon = createServer(controlAddress(flags.listen), node)
await daemon.start()

const bound = flags.listen.startsWith('/unix') ? flags.listen : daemon.getMultiaddr().toString()
const addrs = node.getMultiaddrs().map((addr) => addr.decapsulate('/p2p').toString())
process.stdout.write(`Control socket: ${bound}\nPeer ID: ${node.peerId}\nPeer Addrs:\n${addrs.join('\n')}\n`)
