// A js-libp2p node behind `@libp2p/daemon-server`, started and announced as p2pd is:
//   node server.mjs -listen=<control> -hostAddrs=<a,b> [-noise=false] [-tls=false]
//     [-pubsub] [-pubsubRouter=floodsub]

import './node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { createServer } from '@libp2p/daemon-server'
import { floodsub } from '@libp2p/floodsub'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
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

const services = { identify: identify() }
if (flags.pubsub != null) {
  const options = { emitSelf: true, allowPublishToZeroTopicPeers: true }
  services.pubsub = (flags.pubsubRouter === 'floodsub' ? floodsub : gossipsub)(options)
}
const node = await createLibp2p({
  addresses: { listen: (flags.hostAddrs ?? '').split(',').filter(Boolean) },
  transports: [tcp(), webSockets()],
  connectionEncrypters: [...(on('noise') ? [noise()] : []), ...(on('tls') ? [tls()] : [])],
  streamMuxers: [yamux()],
  services
})
const daemon = createServer(controlAddress(flags.listen), node)
await daemon.start()

const bound = flags.listen.startsWith('/unix') ? flags.listen : daemon.getMultiaddr().toString()
const addrs = node.getMultiaddrs().map((addr) => addr.decapsulate('/p2p').toString())
process.stdout.write(`Control socket: ${bound}\nPeer ID: ${node.peerId}\nPeer Addrs:\n${addrs.join('\n')}\n`)
