#!/usr/bin/env node
import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { path } from '../index.js'

const daemon = spawn(path(), process.argv.slice(2), { stdio: 'inherit' })
// Whoever stops this process means the daemon. Its end is this one's.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2']) {
  process.on(signal, () => daemon.kill(signal))
}
daemon.on('error', error => {
  console.error(error.message)
  process.exitCode = 1
})
daemon.on('exit', (code, signal) => {
  process.exitCode = code ?? 128 + constants.signals[signal]
})
