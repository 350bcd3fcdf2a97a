// Command client runs one case of go-libp2p-daemon's own p2pclient against two daemons:
//
//	client <case> <control address a> <control address b> [case argument]
//
// It exits 0 if the case holds; otherwise the error is on stderr.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ggio "github.com/gogo/protobuf/io"
	"github.com/libp2p/go-libp2p-daemon/p2pclient"
	pb "github.com/libp2p/go-libp2p-daemon/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const patience = 30 * time.Second

// daemon is a client together with where its daemon listens.
type daemon struct {
	*p2pclient.Client
	control ma.Multiaddr
	id      peer.ID
	addrs   []ma.Multiaddr
}

func open(control, dir, name string) (*daemon, error) {
	addr, err := ma.NewMultiaddr(control)
	if err != nil {
		return nil, err
	}
	// Streams come back over the same family as the requests go out.
	listen := "/ip4/127.0.0.1/tcp/0"
	if strings.HasPrefix(control, "/unix") {
		listen = "/unix" + filepath.Join(dir, name)
	}
	listenAddr, err := ma.NewMultiaddr(listen)
	if err != nil {
		return nil, err
	}
	client, err := p2pclient.NewClient(addr, listenAddr)
	if err != nil {
		return nil, err
	}
	d := &daemon{Client: client, control: addr}
	d.id, d.addrs, err = client.Identify()
	return d, err
}

// ask sends a request that p2pclient has no method for, with its own messages.
func (d *daemon) ask(request *pb.Request) (*pb.Response, error) {
	conn, err := manet.Dial(d.control)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := ggio.NewDelimitedWriter(conn).WriteMsg(request); err != nil {
		return nil, err
	}
	response := &pb.Response{}
	if err := ggio.NewDelimitedReader(conn, p2pclient.MessageSizeMax).ReadMsg(response); err != nil {
		return nil, err
	}
	if e := response.GetError(); e != nil {
		return nil, errors.New(e.GetMsg())
	}
	return response, nil
}

func (d *daemon) peers() ([]peer.ID, error) {
	response, err := d.ask(&pb.Request{Type: pb.Request_LIST_PEERS.Enum()})
	if err != nil {
		return nil, err
	}
	var ids []peer.ID
	for _, info := range response.GetPeers() {
		id, err := peer.IDFromBytes(info.GetId())
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// awaitPeers polls until exactly these peers are listed.
func (d *daemon) awaitPeers(want ...peer.ID) error {
	for deadline := time.Now().Add(patience); ; {
		got, err := d.peers()
		if err != nil {
			return err
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("peers %v, want %v", got, want)
		}
	}
}

// register waits until the daemon knows the handler: NewStreamHandler does not read the
// answer, so the registration may still be on its way when it returns.
func register(d *daemon, from *daemon, protos []string, handler p2pclient.StreamHandlerFunc) error {
	if err := d.NewStreamHandler(protos, handler); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; {
		_, stream, err := from.NewStream(d.id, []string{protos[0]})
		if err == nil {
			return stream.Close()
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func identify(a, _ *daemon, argument string) error {
	if a.id.String() != argument {
		return fmt.Errorf("peer id %s, want %s", a.id, argument)
	}
	if len(a.addrs) == 0 {
		return errors.New("no addresses")
	}
	return nil
}

func connect(a, b *daemon, _ string) error {
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	if err := a.awaitPeers(b.id); err != nil {
		return err
	}
	if err := b.awaitPeers(a.id); err != nil {
		return err
	}
	if err := b.Connect(a.id, a.addrs); err != nil {
		return fmt.Errorf("connecting again: %w", err)
	}
	if err := a.Connect(a.id, a.addrs); err == nil || !strings.Contains(err.Error(), "dial to self attempted") {
		return fmt.Errorf("connecting to self: %v", err)
	}
	nobody, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/1")
	if err != nil {
		return err
	}
	stranger, err := peer.Decode("QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNK1")
	if err != nil {
		return err
	}
	if err := a.Connect(stranger, []ma.Multiaddr{nobody}); err == nil || !strings.Contains(err.Error(), "failed to dial") {
		return fmt.Errorf("connecting to nobody: %v", err)
	}
	return nil
}

func disconnect(a, b *daemon, _ string) error {
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	request := &pb.Request{
		Type:       pb.Request_DISCONNECT.Enum(),
		Disconnect: &pb.DisconnectRequest{Peer: []byte(b.id)},
	}
	// The second time there is nothing left to close, which is no error.
	for i := 0; i < 2; i++ {
		if _, err := a.ask(request); err != nil {
			return err
		}
		if got, err := a.peers(); err != nil || len(got) != 0 {
			return fmt.Errorf("peers right after DISCONNECT: %v, %v", got, err)
		}
	}
	return b.awaitPeers()
}

// echo opens a stream on each name, with the bare and the path-like form, both ways.
func echo(a, b *daemon, argument string) error {
	size, err := strconv.Atoi(argument)
	if err != nil {
		return err
	}
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	for _, pair := range [][2]*daemon{{a, b}, {b, a}} {
		for _, proto := range []string{"/interop/echo/1.0.0", "123", "DHTProtocol.rpc_ping"} {
			if err := echoOnce(pair[0], pair[1], proto, size); err != nil {
				return fmt.Errorf("%s: %w", proto, err)
			}
		}
	}
	return nil
}

func echoOnce(opener, handler *daemon, proto string, size int) error {
	seen := make(chan p2pclient.StreamInfo, 64)
	err := register(handler, opener, []string{proto}, func(info *p2pclient.StreamInfo, conn io.ReadWriteCloser) {
		defer conn.Close()
		seen <- *info
		io.Copy(conn, conn)
	})
	if err != nil {
		return err
	}
	info, stream, err := opener.NewStream(handler.id, []string{"/nobody/speaks/this", proto})
	if err != nil {
		return err
	}
	defer stream.Close()
	if info.Peer != handler.id || info.Proto != proto {
		return fmt.Errorf("the opener was told %+v", info)
	}
	sent := make([]byte, size)
	if _, err := rand.Read(sent); err != nil {
		return err
	}
	go stream.Write(sent)
	got := make([]byte, size)
	if _, err := io.ReadFull(stream, got); err != nil {
		return err
	}
	if sha256.Sum256(got) != sha256.Sum256(sent) {
		return errors.New("the echo differs")
	}
	told := <-seen
	if told.Peer != opener.id || told.Proto != proto {
		return fmt.Errorf("the handler was told %+v", told)
	}
	return nil
}

func unknownProtocol(a, b *daemon, _ string) error {
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	_, _, err := a.NewStream(b.id, []string{"/x", "y"})
	if err == nil || !strings.Contains(err.Error(), "protocols not supported: [/x y]") {
		return fmt.Errorf("opening unknown protocols: %v", err)
	}
	return nil
}

// halfClose ends the opener's side, then reads an answer that was made only after that.
func halfClose(a, b *daemon, _ string) error {
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	err := register(b, a, []string{"/interop/late/1.0.0"}, func(_ *p2pclient.StreamInfo, conn io.ReadWriteCloser) {
		defer conn.Close()
		all, err := io.ReadAll(conn)
		if err == nil {
			conn.Write(bytes.ToUpper(all))
		}
	})
	if err != nil {
		return err
	}
	conn, err := manet.Dial(a.control)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := &pb.Request{
		Type:       pb.Request_STREAM_OPEN.Enum(),
		StreamOpen: &pb.StreamOpenRequest{Peer: []byte(b.id), Proto: []string{"/interop/late/1.0.0"}},
	}
	if err := ggio.NewDelimitedWriter(conn).WriteMsg(request); err != nil {
		return err
	}
	// The handler sends nothing before the opener ends, so the reader cannot read too far.
	response := &pb.Response{}
	if err := ggio.NewDelimitedReader(conn, p2pclient.MessageSizeMax).ReadMsg(response); err != nil {
		return err
	}
	if e := response.GetError(); e != nil {
		return errors.New(e.GetMsg())
	}
	if _, err := conn.Write([]byte("late")); err != nil {
		return err
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("%T cannot end one direction", conn)
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	reply, err := io.ReadAll(conn)
	if err != nil || string(reply) != "LATE" {
		return fmt.Errorf("the late reply is %q, %v", reply, err)
	}
	return nil
}

func run(args []string) error {
	cases := map[string]func(a, b *daemon, argument string) error{
		"identify":         identify,
		"connect":          connect,
		"disconnect":       disconnect,
		"echo":             echo,
		"unknown_protocol": unknownProtocol,
		"half_close":       halfClose,
		"unread":           unread,
		"gone_handler":     goneHandler,
		"bad_address":      badAddress,
		"topics":           topics,
		"messages":         messages,
		"dht":              dht,
	}
	if len(args) != 4 || cases[args[0]] == nil {
		return fmt.Errorf("usage: client <case> <control a> <control b> <argument>, got %q", args)
	}
	dir, err := os.MkdirTemp("", "p2pclient")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := open(args[1], dir, "a")
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := open(args[2], dir, "b")
	if err != nil {
		return err
	}
	defer b.Close()
	return cases[args[0]](a, b, args[3])
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
