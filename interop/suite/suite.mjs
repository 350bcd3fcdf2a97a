// The tests of `@libp2p/interop`, unchanged, between daemons of every kind:
//   node suite.mjs [--grep TEXT] RP2PD [GO]
// Prints a table of passed, failed and skipped for each pair, then the failures with their reasons.
// Exits 1 if a test fails with rp2pd which Go passes in the same place, unless it is for
// a transport that rp2pd does not have.

import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values, positionals: [rp2pd, go] } = parseArgs({
  allowPositionals: true,
  options: { grep: { type: 'string', default: '' } }
})
if (rp2pd == null) {
  console.error('usage: node suite.mjs [--grep TEXT] RP2PD [GO]')
  process.exit(2)
}

// The suite knows two kinds, "go" and "js". Each pair says who takes their places.
const JS = 'js-libp2p'
const own = { name: 'rp2pd', program: rp2pd }
const theirs = { name: 'Go', program: go }
const js = { name: JS, program: JS }
const pairs = [[own, js], ...(go == null ? [] : [[theirs, js], [own, theirs], [theirs, theirs]]), [own, own]]
// Tests of transports that rp2pd does not have.
const MISSING = /connection\.(webtransport|webrtc-direct) /
const GROUPS = ['connect', 'dht', 'pubsub', 'relay', 'streams']

const title = (pair) => pair.map(({ name }) => name).join(' and ')

// One pair in a process of its own, as the suite's state is the module's.
function run (pair) {
  const words = [...pair.map(({ program }) => program), values.grep]
  const child = fork(fileURLToPath(new URL('./pair.mjs', import.meta.url)), words)
  const results = []
  child.on('message', (result) => results.push(result))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => code === 0 ? resolve(results) : reject(new Error(`${title(pair)}: exit code ${code}`)))
  })
}

const outcomes = new Map()
for (const pair of pairs) {
  const results = await run(pair)
  outcomes.set(pair, results)
  console.error(`${title(pair)}: ${results.length} tests`)
}

const count = (results, group, state) =>
  results.filter((one) => one.group === group && one.state === state).length
const cell = (results, group) =>
  ['passed', 'failed', 'skipped'].map((state) => count(results, group, state)).join(' / ')

console.log(`| passed / failed / skipped | ${pairs.map(title).join(' | ')} |`)
console.log(`|---|${pairs.map(() => '---|').join('')}`)
for (const group of GROUPS) {
  console.log(`| ${group} | ${pairs.map((pair) => cell(outcomes.get(pair), group)).join(' | ')} |`)
}

for (const pair of pairs) {
  const rest = outcomes.get(pair).filter(({ state }) => state === 'failed')
  console.log(`\n${title(pair)}: ${rest.length} failed`)
  for (const { name, error } of rest) {
    console.log(`  ${name}\n    ${error}`)
  }
}

// What rp2pd fails: all of it, or, with Go beside it, what Go passes in the same place.
const [withJs, goWithJs, mixed, goAlone, alone] = go == null ? [pairs[0], null, null, null, pairs[1]] : pairs
const named = (pair, state) =>
  outcomes.get(pair).filter((one) => one.state === state).map(({ name }) => name)
const worse = [[withJs, goWithJs], [mixed, goAlone], [alone, goAlone]].flatMap(([pair, place]) => {
  const failed = pair == null ? [] : named(pair, 'failed')
  return place == null ? failed : failed.filter((name) => named(place, 'passed').includes(name))
})
const unknown = worse.filter((name) => !MISSING.test(name))
const better = named(alone, 'passed').filter((name) => MISSING.test(name))
console.log(`\n${worse.length} fail with rp2pd${go == null ? '' : ' and pass with Go'}, ` +
  `${worse.length - unknown.length} of them for transports that it does not have`)
if (better.length > 0) {
  console.log(`listed as missing, and passed: ${better.join(', ')}`)
}
process.exit(unknown.length + better.length === 0 ? 0 : 1)
