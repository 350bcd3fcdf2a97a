// Control addresses as the daemon prints them, in the form js-multiaddr reads.

import { multiaddr } from '@multiformats/multiaddr'

export function controlAddress (text) {
  const path = text.startsWith('/unix/') ? text.slice('/unix'.length) : null
  return multiaddr(path == null ? text : `/unix/${encodeURIComponent(path)}`)
}
