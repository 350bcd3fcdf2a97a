import { accessSync, constants } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)

/**
 * The path of the daemon, as `path()` of `go-libp2p` gives it. RP2PD_BINARY in the environment
 * names another.
 *
 * @returns {string}
 */
export function path () {
  if (process.env.RP2PD_BINARY) {
    return process.env.RP2PD_BINARY
  }
  const name = `@rp2pd/${process.platform}-${process.arch}`
  let found
  try {
    found = require.resolve(`${name}/bin/rp2pd`)
  } catch (error) {
    throw new Error(
      `rp2pd: the package ${name} is not installed. Either there is no rp2pd for this platform, ` +
      'or optional dependencies were left out (npm install --include=optional)',
      { cause: error }
    )
  }
  // A file that has lost its mode on the way would fail later, and with less to say.
  accessSync(found, constants.X_OK)
  return found
}
