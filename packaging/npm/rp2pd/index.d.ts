/** The path of the daemon, as `path()` of `go-libp2p` gives it. */
export function path (): string
