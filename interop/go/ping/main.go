// A go-libp2p node for the matrix on this machine:
//
//	ping listen TRANSPORT SECURITY MUXER          prints its address, serves until it is ended
//	ping dial TRANSPORT SECURITY MUXER ADDRESS    prints two numbers, in milliseconds: from the
//	                                              dial to the first answer, and one round trip
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/libp2p/go-libp2p"
	mplex "github.com/libp2p/go-libp2p-mplex"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

var listen = map[string]string{
	"tcp":     "/ip4/127.0.0.1/tcp/0",
	"ws":      "/ip4/127.0.0.1/tcp/0/ws",
	"quic-v1": "/ip4/127.0.0.1/udp/0/quic-v1",
}

func main() {
	if len(os.Args) < 5 {
		log.Fatal("ping listen|dial TRANSPORT SECURITY MUXER [ADDRESS]")
	}
	job, transport, security, muxer := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	options := []libp2p.Option{}
	switch security {
	case "noise":
		options = append(options, libp2p.Security(noise.ID, noise.New))
	case "tls":
		options = append(options, libp2p.Security(libp2ptls.ID, libp2ptls.New))
	}
	switch muxer {
	case "yamux":
		options = append(options, libp2p.Muxer(yamux.ID, yamux.DefaultTransport))
	case "mplex":
		options = append(options, libp2p.Muxer(mplex.ID, mplex.DefaultTransport))
	}
	if job == "dial" {
		options = append(options, libp2p.NoListenAddrs)
	} else {
		options = append(options, libp2p.ListenAddrStrings(listen[transport]))
	}
	host, err := libp2p.New(options...)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	if job == "listen" {
		fmt.Printf("%s/p2p/%s\n", host.Addrs()[0], host.ID())
		select {}
	}
	target, err := peer.AddrInfoFromString(os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := time.Now()
	if err := host.Connect(ctx, *target); err != nil {
		log.Fatal(err)
	}
	answer := <-ping.Ping(ctx, host, target.ID)
	if answer.Error != nil {
		log.Fatal(answer.Error)
	}
	fmt.Println(milliseconds(time.Since(begin)), milliseconds(answer.RTT))
}

func milliseconds(time time.Duration) float64 {
	return float64(time.Microseconds()) / 1000
}
