package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"ninja/ca/seal"
	"ninja/connectors"
	"ninja/connectors/hop"
)

// A datagram is sealed (package seal); its payload is a fragment of an ADU:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------------------------------------------------------+
//	|            number of the ADU on this hop (64), from 0         |
//	+---------------------------------------------------------------+
//	|                         sequence (64)                         |
//	+---------------------------------------------------------------+
//	|                     media time in ns (64)                     |
//	+-------------------------------+-------------------------------+
//	|     fragment, from 0          |      fragments of the ADU     |
//	+---------------+---------------+-------------------------------+
//	|     mark      |   bytes of the ADU ...
//	+---------------+
//
// All fragments but the last are full. The seal's counter is the number of the datagram, from 1, that credit is counted
// in. Key and handle come from the TLS exporter, bound to the stream and the epoch: nothing is negotiated, no two senders
// share a key.
const (
	headerSize   = 29
	chunk        = seal.MaxPayload - headerSize
	maxFragments = (connectors.MaxPayload + chunk - 1) / chunk
	exportLabel  = "EXPORTER-ninja-hop-udp"
	// kindFragment is the kind of the sealed datagram.
	kindFragment = 1
)

// secrets are the key and the handle of a hop's datagrams.
func secrets(s *hop.Session) (key []byte, handle uint64, err error) {
	b, err := s.Export(exportLabel, seal.KeySize+8)
	if err != nil {
		return nil, 0, fmt.Errorf("derive the key of the datagrams: %w", err)
	}
	return b[:seal.KeySize], binary.BigEndian.Uint64(b[seal.KeySize:]), nil
}

// fragment is what a datagram says.
type fragment struct {
	number           uint64
	seq              uint64
	time             time.Duration
	index, fragments int
	mark             connectors.Mark
	payload          []byte
}

func (f fragment) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, f.number)
	b = binary.BigEndian.AppendUint64(b, f.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(f.time))
	b = binary.BigEndian.AppendUint16(b, uint16(f.index))
	b = binary.BigEndian.AppendUint16(b, uint16(f.fragments))
	b = append(b, byte(f.mark))
	return append(b, f.payload...)
}

var errFragment = errors.New("malformed fragment")

// parse reads a fragment; the payload is part of b.
func parse(b []byte) (fragment, error) {
	if len(b) < headerSize {
		return fragment{}, fmt.Errorf("%w of %d bytes", errFragment, len(b))
	}
	f := fragment{
		number: binary.BigEndian.Uint64(b), seq: binary.BigEndian.Uint64(b[8:]),
		time:  time.Duration(binary.BigEndian.Uint64(b[16:])),
		index: int(binary.BigEndian.Uint16(b[24:])), fragments: int(binary.BigEndian.Uint16(b[26:])),
		mark: connectors.Mark(b[28]), payload: b[headerSize:],
	}
	n, last := len(f.payload), f.index == f.fragments-1
	if f.fragments < 1 || f.fragments > maxFragments || f.index >= f.fragments || f.number >= 1<<62 || n > chunk ||
		!last && n != chunk || last && n == 0 && f.fragments > 1 {
		return fragment{}, fmt.Errorf("%w: %d of %d, %d bytes", errFragment, f.index, f.fragments, n)
	}
	return f, nil
}

// fragments is how many fragments an ADU of n bytes takes.
func fragments(n int) int { return max((n+chunk-1)/chunk, 1) }
