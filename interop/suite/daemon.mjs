// A p2pd, or what is started as one, with the flags that js-libp2p's own runner gives it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createClient } from '@libp2p/daemon-client'
import { UnsupportedError } from '@libp2p/interop'
import { multiaddr } from '@multiformats/multiaddr'

// From SIGTERM to SIGKILL, in milliseconds.
const GRACE = 10_000
const LISTEN = {
  tcp: '/ip4/127.0.0.1/tcp/0',
  webtransport: '/ip4/127.0.0.1/udp/0/quic-v1/webtransport',
  'webrtc-direct': '/ip4/127.0.0.1/udp/0/webrtc-direct'
}
const children = new Set()
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')))

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

function flags (options) {
  const words = []
  if (options.noListen === true) {
    words.push('-noListenAddrs')
  } else {
    const address = LISTEN[options.transport ?? 'tcp']
    if (address == null) {
      throw new UnsupportedError()
    }
    words.push(`-hostAddrs=${address}`)
  }
  for (const [name, flag] of Object.entries({ dht: 'dhtServer', relay: 'relay', pubsub: 'pubsub' })) {
    if (options[name] === true) {
      words.push(`-${flag}`)
    }
  }
  if (options.encryption != null) {
    words.push(`-${options.encryption}=true`)
  }
  if (options.pubsubRouter != null) {
    words.push(`-pubsubRouter=${options.pubsubRouter}`)
  }
  if (options.key != null) {
    words.push(`-id=${options.key}`)
  }
  words.push(`-muxer=${options.muxer ?? 'yamux'}`)
  return words
}

export async function spawnDaemon (program, options) {
  const words = flags(options)
  const control = `/ip4/127.0.0.1/tcp/${await freePort()}`
  const child = spawn(program, [`-listen=${control}`, ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  child.once('exit', () => children.delete(child))
  let said = ''
  child.stderr.on('data', (bytes) => { said = (said + bytes).slice(-500) })
  await new Promise((resolve, reject) => {
    let banner = ''
    child.stdout.on('data', (bytes) => {
      banner += bytes
      if (banner.includes('Control socket:')) {
        resolve()
      }
    })
    child.once('error', reject)
    child.once('exit', () => reject(new Error(`${program} ${words.join(' ')} has ended: ${said}`)))
  })
  return { client: createClient(multiaddr(control)), stop: async () => { child.kill() } }
}

// Those that still run.
export async function stopDaemons () {
  await Promise.all([...children].map(async (child) => {
    const end = once(child, 'exit')
    child.kill()
    const timer = setTimeout(() => child.kill('SIGKILL'), GRACE)
    await end
    clearTimeout(timer)
  }))
}
