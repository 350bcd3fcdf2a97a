// Command private is Go's daemon in a private network, which its own command line has no flag for:
//
//	private -listen=<control> -hostAddrs=<a,b> -pnetKey=<file> [-noise=false] [-tls=false]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/libp2p/go-libp2p"
	p2pd "github.com/libp2p/go-libp2p-daemon"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	tls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

func run() error {
	listen := flag.String("listen", "", "control address")
	hostAddrs := flag.String("hostAddrs", "", "addresses to listen on, by commas")
	key := flag.String("pnetKey", "", "key file of the network")
	offerNoise := flag.Bool("noise", true, "offer noise")
	offerTLS := flag.Bool("tls", true, "offer tls")
	flag.Parse()

	control, err := ma.NewMultiaddr(*listen)
	if err != nil {
		return err
	}
	file, err := os.Open(*key)
	if err != nil {
		return err
	}
	psk, err := pnet.DecodeV1PSK(file)
	if err != nil {
		return err
	}
	opts := []libp2p.Option{
		libp2p.ListenAddrStrings(strings.Split(*hostAddrs, ",")...),
		libp2p.PrivateNetwork(psk),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New),
	}
	if *offerNoise {
		opts = append(opts, libp2p.Security(noise.ID, noise.New))
	}
	if *offerTLS {
		opts = append(opts, libp2p.Security(tls.ID, tls.New))
	}
	daemon, err := p2pd.NewDaemon(context.Background(), control, "", opts...)
	if err != nil {
		return err
	}
	fmt.Printf("Control socket: %s\nPeer ID: %s\nPeer Addrs:\n", daemon.Listener().Multiaddr(), daemon.ID())
	for _, addr := range daemon.Addrs() {
		fmt.Println(addr)
	}
	select {}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
