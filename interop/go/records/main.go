// Command records makes records of every kind with Go's own libraries, as they are, spoilt and
// in competition, and writes what Go's validators say of each to a new file, one per line:
//
//	records <file>
//
//	validate <key> <value> <error, or ok>
//	select   <key> <value,value> <index>
//
// separated by tabs, keys and values in base64.
package main

import (
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/ipfs/boxo/ipns"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"
)

var out *os.File

var validator = record.NamespacedValidator{
	"pk":   record.PublicKeyValidator{},
	"ipns": ipns.Validator{},
}

func base(bytes []byte) string { return base64.RawStdEncoding.EncodeToString(bytes) }

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func validate(key string, value []byte) {
	verdict := "ok"
	if err := validator.Validate(key, value); err != nil {
		verdict = err.Error()
	}
	fmt.Fprintf(out, "validate\t%s\t%s\t%q\n", base([]byte(key)), base(value), verdict)
}

func choose(key string, values ...[]byte) {
	var written []string
	for _, value := range values {
		written = append(written, base(value))
	}
	best := must(validator.Select(key, values))
	fmt.Fprintf(out, "select\t%s\t%s\t\"%d\"\n", base([]byte(key)), strings.Join(written, ","), best)
}

// pointer is a record below /ipns/ that lives for life from now on.
func pointer(key crypto.PrivKey, value string, sequence uint64, life time.Duration) []byte {
	end := time.Now().Add(life)
	entry := must(ipns.Create(key, []byte(value), sequence, end, time.Minute))
	if err := ipns.EmbedPublicKey(key.GetPublic(), entry); err != nil {
		log.Fatal(err)
	}
	return must(proto.Marshal(entry))
}

// numbered reports whether value, as far as it parses, has only field numbers that protobuf knows:
// gogo's decoder, which this version of the records is read by, skips greater ones; Google's, which
// later versions are read by, and rp2pd's take them for malformed.
func numbered(value []byte) bool {
	for len(value) > 0 {
		tag, read := protowire.ConsumeVarint(value)
		if read < 0 {
			return true
		}
		if tag>>3 > uint64(protowire.MaxValidNumber) {
			return false
		}
		number, kind := protowire.DecodeTag(tag)
		length := protowire.ConsumeFieldValue(number, kind, value[read:])
		if length < 0 {
			return true
		}
		value = value[read+length:]
	}
	return true
}

// spoil judges value with one bit turned, at places all over it.
func spoil(key string, value []byte) {
	for at := 0; at < len(value); at += 1 + len(value)/40 {
		spoilt := append([]byte{}, value...)
		spoilt[at] ^= 1 << (at % 8)
		if numbered(spoilt) {
			validate(key, spoilt)
		}
	}
}

func main() {
	out = must(os.Create(os.Args[1]))
	for _, kind := range crypto.KeyTypes {
		private, public, err := crypto.GenerateKeyPair(kind, 2048)
		if err != nil {
			log.Fatal(err)
		}
		id := string(must(peer.IDFromPublicKey(public)))
		value := must(crypto.MarshalPublicKey(public))
		validate("/pk/"+id, value)
		spoil("/pk/"+id, value)
		name := ipns.RecordKey(peer.ID(id))
		validate(name, pointer(private, "/ipfs/a", 1, -time.Second))
		value = pointer(private, "/ipfs/a", 1, time.Hour)
		validate(name, value)
		spoil(name, value)
		newer := pointer(private, "/ipfs/a", 2, time.Hour)
		later := pointer(private, "/ipfs/a", 1, 2*time.Hour)
		other := pointer(private, "/ipfs/b", 1, time.Hour)
		choose(name, value, newer)
		choose(name, newer, later)
		choose(name, value, later)
		choose(name, later, other, newer, value)
		choose(name, value, value)
	}
}
