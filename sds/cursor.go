package sds

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds/sdspb"
)

// cursors seal where an answer ended, so that the rest can be asked for: after the last service by its place in the
// order, not by its number, so that it means the same whatever comes and goes. The key is the server's and dies with
// it. A cursor is good for one principal and one question; what it may find is looked at anew.
//
//	nonce (12) | sealed: version (1) | rank (1) | value (8, IEEE 754) | length of id (2) | id | text
type cursors struct {
	aead   cipher.AEAD
	random io.Reader
}

const (
	cursorVersion = 1
	cursorFixed   = 1 + 1 + 8 + 2
	maxCursor     = 8 << 10
)

func newCursors(w world.World) (*cursors, error) {
	var key [32]byte
	if _, err := io.ReadFull(w.Rand, key[:]); err != nil {
		return nil, fmt.Errorf("sds: the key of cursors: %w", err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("sds: the key of cursors: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("sds: the key of cursors: %w", err)
	}
	return &cursors{aead, w.Rand}, nil
}

// subject is the hash of whose question it is and what it asks, but for how much.
func subject(who ca.ID, q *sdspb.Question) []byte {
	plain := proto.CloneOf(q)
	plain.Cursor, plain.Limit = nil, 0
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(plain)
	if err != nil {
		return nil // a question that came over the wire goes back onto it
	}
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(who))))
	h.Write([]byte(who))
	h.Write(b)
	return h.Sum(nil)
}

// seal makes the cursor of what follows h.
func (c *cursors) seal(subject []byte, h *hit) []byte {
	plain := []byte{cursorVersion, byte(h.rank)}
	plain = binary.BigEndian.AppendUint64(plain, math.Float64bits(h.value))
	plain = binary.BigEndian.AppendUint16(plain, uint16(len(h.id)))
	plain = append(append(plain, h.id...), h.text...)
	nonce := make([]byte, c.aead.NonceSize())
	if _, err := io.ReadFull(c.random, nonce); err != nil {
		return nil // the rest cannot be asked for; it is still said that there is more
	}
	return c.aead.Seal(nonce, nonce, plain, subject)
}

var errCursor = errors.New("the cursor is of another question, principal or start of the server: ask from the beginning")

// open reads a cursor. Only the place of the hit is set.
func (c *cursors) open(subject, cursor []byte) (*hit, error) {
	n := c.aead.NonceSize()
	if len(cursor) < n || len(cursor) > maxCursor {
		return nil, status.Error(codes.InvalidArgument, errCursor.Error())
	}
	plain, err := c.aead.Open(nil, cursor[:n], cursor[n:], subject)
	if err != nil || len(plain) < cursorFixed || plain[0] != cursorVersion {
		return nil, status.Error(codes.InvalidArgument, errCursor.Error())
	}
	h := &hit{rank: int(plain[1]), value: math.Float64frombits(binary.BigEndian.Uint64(plain[2:]))}
	rest := plain[cursorFixed:]
	size := int(binary.BigEndian.Uint16(plain[10:]))
	if size > len(rest) {
		return nil, status.Error(codes.InvalidArgument, errCursor.Error())
	}
	h.id, h.text = string(rest[:size]), string(rest[size:])
	return h, nil
}
