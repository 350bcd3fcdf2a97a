//go:build tools

// Package interop names the programs that the interop tests build besides their own.
package interop

import (
	_ "github.com/libp2p/go-libp2p-daemon/p2pd"
)
