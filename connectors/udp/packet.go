package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"ninja/ca/seal"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/connectors/trunk"
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
//
// On a trunk, which seals, the fragment stands in the clear behind that number (64). When its first bit is set the age of
// the ADU in ns (64) stands between them.
const (
	headerSize = 29
	numberSize = 8
	stampSize  = 8
	stamped    = 1 << 63
	// chunk and trunkChunk are full fragments.
	chunk        = seal.MaxPayload - headerSize
	trunkChunk   = trunk.MaxPayload - numberSize - stampSize - headerSize
	maxFragments = (connectors.MaxPayload + trunkChunk - 1) / trunkChunk
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
	stamp            *connectors.Stamp
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

// parse reads a fragment, of which full ones have chunk bytes; the payload is part of b.
func parse(b []byte, chunk int) (fragment, error) {
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
	if f.fragments < 1 || f.fragments > fragments(connectors.MaxPayload, chunk) || f.index >= f.fragments || f.number >= 1<<62 || n > chunk ||
		!last && n != chunk || last && n == 0 && f.fragments > 1 {
		return fragment{}, fmt.Errorf("%w: %d of %d, %d bytes", errFragment, f.index, f.fragments, n)
	}
	return f, nil
}

// fragments is how many fragments of chunk bytes an ADU of n bytes takes.
func fragments(n, chunk int) int { return max((n+chunk-1)/chunk, 1) }

// sealer makes the datagrams of a hop. It is not safe for use by many goroutines.
type sealer struct {
	seal   *seal.Sealer // nil on a trunk
	chunk  int
	number uint64 // of the last datagram on a trunk
	plain  []byte
	sealed []byte
}

func newSealer(s *hop.Session) (sealer, error) {
	if s.Trunked() {
		return sealer{chunk: trunkChunk}, nil
	}
	key, handle, err := secrets(s)
	if err != nil {
		return sealer{}, err
	}
	k, err := seal.NewSealer(key, handle)
	return sealer{seal: k, chunk: chunk}, err
}

// datagram packs a fragment; the result is valid until the next call. No memory is allocated.
func (s *sealer) datagram(f fragment) ([]byte, error) {
	if s.seal == nil {
		s.number++
		if f.stamp != nil {
			s.plain = binary.BigEndian.AppendUint64(s.plain[:0], s.number|stamped)
			s.plain = binary.BigEndian.AppendUint64(s.plain, uint64(f.stamp.Now(time.Now())))
		} else {
			s.plain = binary.BigEndian.AppendUint64(s.plain[:0], s.number)
		}
		s.plain = f.append(s.plain)
		return s.plain, nil
	}
	s.plain = f.append(s.plain[:0])
	var err error
	s.sealed, err = s.seal.Seal(s.sealed[:0], kindFragment, s.plain)
	return s.sealed, err
}

// opener reads the datagrams of a hop. It is not safe for use by many goroutines.
type opener struct {
	seal  *seal.Opener // nil on a trunk
	chunk int
	slab  connectors.Slab
}

func newOpener(s *hop.Session) (opener, error) {
	if s.Trunked() {
		return opener{chunk: trunkChunk}, nil
	}
	key, handle, err := secrets(s)
	if err != nil {
		return opener{}, err
	}
	k, err := seal.NewOpener(key, handle)
	return opener{seal: k, chunk: chunk}, err
}

// opened is what a genuine datagram holds.
type opened struct {
	plain  []byte // the caller's
	number uint64
	age    time.Duration // negative when it was not said
}

// open opens a datagram.
func (o *opener) open(d []byte) (opened, error) {
	if o.seal == nil {
		return split(d)
	}
	plain, h, err := o.seal.Open(o.slab.Free(seal.MaxDatagram), d)
	if err == nil && h.Kind != kindFragment {
		err = errFragment
	}
	return opened{o.slab.Take(plain), h.Counter, -1}, err
}

// split splits what came by a trunk.
func split(d []byte) (opened, error) {
	if len(d) < numberSize+stampSize {
		return opened{}, errFragment
	}
	number, rest := binary.BigEndian.Uint64(d), d[numberSize:]
	if number&stamped == 0 {
		return opened{rest, number, -1}, nil
	}
	return opened{rest[stampSize:], number &^ stamped, time.Duration(binary.BigEndian.Uint64(rest))}, nil
}
