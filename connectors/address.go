package connectors

import (
	"encoding/hex"
	"fmt"
	"net"
	"strings"
)

// maxAddress bounds the text of an address.
const maxAddress = 512

// Address is what a sender dials, SCHEME://HOST:PORT/STREAM.
type Address struct {
	// Scheme is that of the Transport.
	Scheme string
	// Host is the host and port of the node.
	Host string
	// Stream is the hop on that node.
	Stream StreamID
}

// String is the text of the address.
func (a Address) String() string { return a.Scheme + "://" + a.Host + "/" + a.Stream.String() }

// ParseAddress reads the text of an address, which must be of the scheme.
func ParseAddress(scheme, s string) (Address, error) {
	rest, ok := strings.CutPrefix(s, scheme+"://")
	host, stream, found := strings.Cut(rest, "/")
	id, err := hex.DecodeString(stream)
	if !ok || !found || err != nil || len(id) != len(StreamID{}) || stream != strings.ToLower(stream) || len(s) > maxAddress {
		return Address{}, fmt.Errorf("address %.80q: want %s://HOST:PORT/STREAM with 32 lower-case hexadecimal digits", s, scheme)
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return Address{}, fmt.Errorf("address %.80q: %w", s, err)
	}
	return Address{Scheme: scheme, Host: host, Stream: StreamID(id)}, nil
}

// String is the stream in lower-case hexadecimal.
func (s StreamID) String() string { return hex.EncodeToString(s[:]) }
