// The suite for one pair: node pair.mjs PROGRAM|js-libp2p PROGRAM|js-libp2p [TEXT]
// Each result goes to the parent as { group, name, state, error }.

import {
  connectInteropTests, dhtInteropTests, pubsubInteropTests, relayInteropTests, streamInteropTests
} from '@libp2p/interop'
import Mocha from 'mocha'
import { spawnDaemon, stopDaemons } from './daemon.mjs'
import { spawnNode } from './node.mjs'

const [go, js, text] = process.argv.slice(2)
const programs = { go, js }
const factory = {
  async spawn (options) {
    const program = programs[options.type]
    return program === 'js-libp2p' ? spawnNode(options) : spawnDaemon(program, options)
  }
}

// As aegir runs it.
const mocha = new Mocha({ timeout: 60_000 })
if (text) {
  mocha.fgrep(text)
}
mocha.suite.emit('pre-require', globalThis, null, mocha)
describe('connect', () => { connectInteropTests(factory) })
describe('dht', () => { dhtInteropTests(factory) })
describe('pubsub', () => { pubsubInteropTests(factory) })
describe('relay', () => { relayInteropTests(factory) })
describe('streams', () => { streamInteropTests(factory) })

const results = new Map()
const tell = (test, state, error) => {
  const path = test.titlePath()
  results.set(path.join(' '), { group: path[0], name: path.join(' '), state, error: error?.message ?? error?.code })
}
mocha.reporter(class {
  constructor (runner) {
    runner.on('pass', (test) => tell(test, 'passed'))
    runner.on('pending', (test) => tell(test, 'skipped'))
    // A hook that fails keeps the tests of its block from running.
    runner.on('fail', (test, error) => {
      const tests = test.type === 'hook' ? test.parent.tests.filter((one) => one.state == null) : [test]
      tests.forEach((one) => tell(one, 'failed', error))
    })
  }
})
mocha.run(async () => {
  await stopDaemons()
  if (results.size === 0 || (!text && results.size !== mocha.suite.total())) {
    console.error(`${mocha.suite.total()} tests, ${results.size} results`)
    process.exit(1)
  }
  for (const result of results.values()) {
    await new Promise((resolve) => process.send(result, resolve))
  }
  process.exit(0)
})
