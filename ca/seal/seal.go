// Package seal is the one sealed datagram: an authenticated header in clear, a body under AES-256-GCM, a length that
// tells little, and a replay window that only authentic datagrams move. Announcements, beacons and datagram transports
// use it. It has no sockets and no clock, and it makes no keys: whoever uses it agrees on one key per direction.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------+---------------+-------------------------------+
//	|  version = 1  |     kind      |           zero                |
//	+---------------+---------------+-------------------------------+
//	|                           handle                              |
//	|                          (64 bits)                            |
//	+---------------------------------------------------------------+
//	|                           counter                             |
//	|                    (64 bits, from 1)                          |
//	+===============================+===============================+
//	|      length of payload        |   payload ...                 |   sealed
//	+-------------------------------+                               |
//	|   ... and zeros up to the next padded length                  |
//	+---------------------------------------------------------------+
//	|                     GCM tag (128 bits)                        |
//	+---------------------------------------------------------------+
//
// The nonce is four zero bytes and the counter; the 20 bytes of header are authenticated as additional data. A
// datagram is a multiple of Step bytes long, or MaxDatagram. Integers are big-endian.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// Sizes, in bytes.
const (
	// Version is the first byte of every datagram of this form.
	Version = 1
	// MaxDatagram is the longest datagram: with the headers of IPv6 and UDP it stays below 1,500 through a tunnel.
	MaxDatagram = 1400
	// HeaderSize is the part in clear.
	HeaderSize = 20
	// Overhead is what a datagram holds beside payload and padding.
	Overhead = HeaderSize + 2 + tagSize
	// MaxPayload is the longest payload.
	MaxPayload = MaxDatagram - Overhead
	// Step is what lengths are padded to multiples of.
	Step = 128
	// KeySize is the size of a key.
	KeySize = 32

	tagSize   = 16
	nonceSize = 12
	// maxCounter ends a key long before a nonce could come twice.
	maxCounter = 1 << 48
)

// Errors of Parse, Seal and Open.
var (
	ErrMalformed = errors.New("not a sealed datagram")
	ErrForged    = errors.New("sealed datagram is not authentic")
	ErrReplayed  = errors.New("sealed datagram was opened before or is too old")
	ErrTooLong   = fmt.Errorf("payload is over %d bytes", MaxPayload)
	ErrExhausted = errors.New("the key has sealed all it may: agree on a new one")
)

// Header is what everyone can read of a datagram. Kind is the user's, to tell one use or direction from another.
type Header struct {
	Kind    byte
	Handle  uint64
	Counter uint64
}

// Parse reads the header of a datagram. That it is well formed says nothing about who made it.
func Parse(d []byte) (Header, error) {
	if len(d) < Overhead || len(d) > MaxDatagram || d[0] != Version || d[2] != 0 || d[3] != 0 {
		return Header{}, ErrMalformed
	}
	return Header{
		Kind:    d[1],
		Handle:  binary.BigEndian.Uint64(d[4:]),
		Counter: binary.BigEndian.Uint64(d[12:]),
	}, nil
}

// Sealer seals the datagrams of one direction under one key. It may be used by several goroutines.
type Sealer struct {
	aead    cipher.AEAD
	handle  uint64
	counter atomic.Uint64
}

// NewSealer makes a Sealer of a key of KeySize bytes that nothing else seals with. The handle tells the other end which
// key it is; it should be random.
func NewSealer(key []byte, handle uint64) (*Sealer, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead: aead, handle: handle}, nil
}

// Seal appends a datagram with the payload to dst.
func (s *Sealer) Seal(dst []byte, kind byte, payload []byte) ([]byte, error) {
	if len(payload) > MaxPayload {
		return dst, ErrTooLong
	}
	counter := s.counter.Add(1)
	if counter >= maxCounter {
		return dst, ErrExhausted
	}
	start := len(dst)
	dst = append(dst, Version, kind, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, s.handle)
	dst = binary.BigEndian.AppendUint64(dst, counter)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	dst = append(dst, payload...)
	end := start + padded(len(payload))
	// The nonce stands behind the datagram for a moment: an array of its own would be allocated each time.
	used := len(dst)
	dst = slices.Grow(dst, end+nonceSize-used)[:end+nonceSize]
	clear(dst[used:])
	header, body, nonce := dst[start:start+HeaderSize], dst[start+HeaderSize:end-tagSize], dst[end:]
	binary.BigEndian.PutUint64(nonce[nonceSize-8:], counter)
	s.aead.Seal(body[:0], nonce, body, header)
	return dst[:end], nil
}

// padded is the length of a datagram with a payload of n bytes.
func padded(n int) int {
	return min((n+Overhead+Step-1)/Step*Step, MaxDatagram)
}

// Opener opens the datagrams of one direction under one key, each once. It is for one goroutine at a time.
type Opener struct {
	aead   cipher.AEAD
	handle uint64
	window Window
	nonce  [nonceSize]byte // here it is allocated once
}

// NewOpener makes the Opener for what NewSealer's Sealer seals with the same key and handle.
func NewOpener(key []byte, handle uint64) (*Opener, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &Opener{aead: aead, handle: handle}, nil
}

// Open appends the payload of the datagram to dst. A datagram that is malformed, not authentic or replayed is an
// error and changes nothing. The datagram is left as it was.
func (o *Opener) Open(dst, datagram []byte) ([]byte, Header, error) {
	h, err := Parse(datagram)
	if err != nil {
		return dst, h, err
	}
	if h.Handle != o.handle {
		return dst, h, ErrForged
	}
	if !o.window.Fresh(h.Counter) {
		return dst, h, ErrReplayed
	}
	binary.BigEndian.PutUint64(o.nonce[nonceSize-8:], h.Counter)
	start := len(dst)
	out, err := o.aead.Open(dst, o.nonce[:], datagram[HeaderSize:], datagram[:HeaderSize])
	if err != nil {
		return dst, h, ErrForged
	}
	body := out[start:]
	n := int(binary.BigEndian.Uint16(body))
	if n > len(body)-2 || len(datagram) != padded(n) {
		return dst, h, ErrMalformed
	}
	o.window.Mark(h.Counter)
	copy(body, body[2:2+n])
	return out[:start+n], h, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a sealing key has %d bytes, not %d", KeySize, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
