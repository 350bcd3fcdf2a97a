package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p-daemon/p2pclient"
	pb "github.com/libp2p/go-libp2p-daemon/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"
)

// What the Go daemons' own test suites try, with the methods of their client alone.

// unread opens streams to handlers as soon as NewStreamHandler returns, which does not read the
// daemon's answer.
func unread(a, b *daemon, argument string) error {
	rounds, err := strconv.Atoi(argument)
	if err != nil {
		return err
	}
	if err := b.Connect(a.id, a.addrs); err != nil {
		return err
	}
	got := make(chan []byte, 1)
	for round := 0; round < rounds; round++ {
		proto := fmt.Sprintf("/interop/unread/%d", round)
		err := a.NewStreamHandler([]string{proto}, func(_ *p2pclient.StreamInfo, conn io.ReadWriteCloser) {
			defer conn.Close()
			buffer := make([]byte, 4)
			if _, err := io.ReadFull(conn, buffer); err != nil {
				buffer = []byte(err.Error())
			}
			got <- buffer
		})
		if err != nil {
			return err
		}
		_, stream, err := b.NewStream(a.id, []string{proto})
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if _, err := stream.Write([]byte("test")); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		select {
		case bytes := <-got:
			if string(bytes) != "test" {
				return fmt.Errorf("round %d: the handler read %q", round, bytes)
			}
		case <-time.After(patience):
			return fmt.Errorf("round %d: the handler got nothing", round)
		}
		stream.Close()
	}
	return nil
}

// goneHandler opens a stream to a handler whose socket nobody listens on any more.
func goneHandler(a, b *daemon, _ string) error {
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	listen, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/1")
	if err != nil {
		return err
	}
	const proto = "/interop/gone/1.0.0"
	if _, err := b.ask(&pb.Request{
		Type:          pb.Request_STREAM_HANDLER.Enum(),
		StreamHandler: &pb.StreamHandlerRequest{Addr: listen.Bytes(), Proto: []string{proto}},
	}); err != nil {
		return err
	}
	// The protocol is agreed on, then the stream ends.
	_, stream, err := a.NewStream(b.id, []string{proto})
	if err != nil {
		return fmt.Errorf("opening a stream to a handler that is gone: %w", err)
	}
	defer stream.Close()
	if rest, err := io.ReadAll(stream); len(rest) != 0 {
		return fmt.Errorf("a handler that is gone sent %q, %v", rest, err)
	}
	return nil
}

// badAddress connects to an address that nobody listens on, with a valid peer id.
func badAddress(a, b *daemon, _ string) error {
	nobody, err := ma.NewMultiaddr("/ip4/127.0.0.1/tcp/1")
	if err != nil {
		return err
	}
	if err := a.Connect(b.id, []ma.Multiaddr{nobody}); err == nil {
		return errors.New("connected to an address that nobody listens on")
	}
	// That is no lasting harm.
	return a.Connect(b.id, b.addrs)
}

// topics subscribes, lists, and unsubscribes by cancelling.
func topics(a, _ *daemon, _ string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := a.Subscribe(ctx, "test"); err != nil {
		return err
	}
	got, err := a.GetTopics()
	if err != nil || len(got) != 1 || got[0] != "test" {
		return fmt.Errorf("topics %q, %v", got, err)
	}
	cancel()
	return eventually("topics after the end of the subscription", func() (bool, error) {
		got, err := a.GetTopics()
		return len(got) == 0, err
	})
}

// messages publishes from one daemon to a subscriber of the other.
func messages(a, b *daemon, _ string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	received, err := b.Subscribe(ctx, "test")
	if err != nil {
		return err
	}
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	go func() {
		for ctx.Err() == nil {
			if err := a.Publish("test", []byte("foobar")); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for count := 0; count < 10; count++ {
		select {
		case message, ok := <-received:
			if !ok {
				return errors.New("the subscription ended")
			}
			if string(message.Data) != "foobar" || !bytes.Equal(message.From, []byte(a.id)) {
				return fmt.Errorf("message %q from %x", message.Data, message.From)
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of 10 messages arrived", count)
		}
	}
	return nil
}

// dht goes through every verb of the DHT.
func dht(a, b *daemon, _ string) error {
	if err := a.Connect(b.id, b.addrs); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := eventually("each is in the other's table", func() (bool, error) {
		for _, pair := range [][2]*daemon{{a, b}, {b, a}} {
			peers, err := pair[0].GetClosestPeers(ctx, []byte("any key"))
			if err != nil {
				return false, err
			}
			found := false
			for id := range peers {
				found = found || id == pair[1].id
			}
			if !found {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		return err
	}
	info, err := a.FindPeer(b.id)
	if err != nil || info.ID != b.id || len(info.Addrs) == 0 {
		return fmt.Errorf("FindPeer: %+v, %v", info, err)
	}
	key, err := a.GetPublicKey(b.id)
	if err != nil || !b.id.MatchesPublicKey(key) {
		return fmt.Errorf("GetPublicKey: %v, %v", key, err)
	}
	if err := provided(ctx, a, b); err != nil {
		return err
	}
	return valued(ctx, a, b)
}

func provided(ctx context.Context, a, b *daemon) error {
	content := make([]byte, 32)
	if _, err := rand.Read(content); err != nil {
		return err
	}
	hash, err := multihash.Sum(content, multihash.SHA2_256, -1)
	if err != nil {
		return err
	}
	id := cid.NewCidV1(cid.Raw, hash)
	if err := a.Provide(id); err != nil {
		return fmt.Errorf("Provide: %w", err)
	}
	providers, err := b.FindProviders(ctx, id)
	if err != nil {
		return fmt.Errorf("FindProviders: %w", err)
	}
	found := false
	for info := range providers {
		found = found || info.ID == a.id
	}
	if !found {
		return errors.New("FindProviders: the provider is not among them")
	}
	return nil
}

func valued(ctx context.Context, a, b *daemon) error {
	_, public, err := crypto.GenerateKeyPair(crypto.RSA, 2048)
	if err != nil {
		return err
	}
	value, err := crypto.MarshalPublicKey(public)
	if err != nil {
		return err
	}
	owner, err := peer.IDFromPublicKey(public)
	if err != nil {
		return err
	}
	key := append([]byte("/pk/"), []byte(owner)...)
	if err := a.PutValue(key, value); err != nil {
		return fmt.Errorf("PutValue: %w", err)
	}
	got, err := b.GetValue(key)
	if err != nil || !bytes.Equal(got, value) {
		return fmt.Errorf("GetValue: %x, %v", got, err)
	}
	found, err := b.SearchValue(ctx, key)
	if err != nil {
		return fmt.Errorf("SearchValue: %w", err)
	}
	count := 0
	for one := range found {
		if !bytes.Equal(one, value) {
			return fmt.Errorf("SearchValue: %x", one)
		}
		count++
	}
	if count == 0 {
		return errors.New("SearchValue: nothing")
	}
	if err := a.PutValue([]byte("/unknown/key"), value); err == nil {
		return errors.New("PutValue: a key without a validator was taken")
	}
	return nil
}

// eventually polls until `holds`.
func eventually(what string, holds func() (bool, error)) error {
	for deadline := time.Now().Add(patience); ; {
		done, err := holds()
		if done && err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s (%v)", patience, strings.TrimSpace(what), err)
		}
		// A short pause keeps the daemon's clients from waiting for this loop.
		time.Sleep(10 * time.Millisecond)
	}
}
