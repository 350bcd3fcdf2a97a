// js-libp2p uses Promise.withResolvers and WebSocket, which Node has from version 22.
// Import this first.

import { WebSocket } from 'ws'

Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((...both) => { [resolve, reject] = both })
  return { promise, resolve, reject }
}
globalThis.WebSocket ??= WebSocket
