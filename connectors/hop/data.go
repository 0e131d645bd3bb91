package hop

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// ServeData serves data to any peer with a valid identity and returns the hash it is asked for by. The caller does not
// change data afterwards.
func (s *Server) ServeData(data []byte) string {
	h := sha256.Sum256(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[h] = data
	return hex.EncodeToString(h[:])
}

// dataTimeout bounds the sending and the fetching of one piece of data.
const dataTimeout = 30 * time.Second

func (s *Server) serveData(conn *tls.Conn, h hello) {
	s.mu.Lock()
	data, ok := s.data[h.hash]
	s.mu.Unlock()
	switch {
	case !ok:
		s.answer(conn, welcome{status: UnknownData, text: "no data with this hash is served here"})
	case uint64(len(data)) > uint64(h.max):
		s.answer(conn, welcome{status: TooLarge, text: fmt.Sprintf("the data has %d bytes, at most %d were asked for", len(data), h.max)})
	default:
		conn.SetDeadline(time.Now().Add(dataTimeout))
		if s.answer(conn, welcome{size: uint32(len(data))}) == nil {
			conn.Write(data)
		}
	}
	conn.CloseWrite()
	io.CopyN(io.Discard, conn, 1) // until the peer has read it and closes
}

// Fetch gets data by its hash from the peer at address; max bounds its size in bytes. The hash is checked.
func Fetch(ctx context.Context, w world.World, id *ca.Identity, address string, peer ca.ID, sha256hex string, max int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, dataTimeout)
	defer cancel()
	hash, err := hex.DecodeString(sha256hex)
	if err != nil || len(hash) != sha256.Size {
		return nil, fmt.Errorf("fetch data: %.80q is not a SHA-256 hash in hexadecimal", sha256hex)
	}
	h := hello{purpose: purposeData, hash: [32]byte(hash), max: uint32(min(max, 1<<31))}
	conn, in, answer, err := dial(ctx, w, id, address, peer, h, false)
	if err != nil {
		return nil, fmt.Errorf("fetch data %.8s from %s at %s: %w", sha256hex, peer, address, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if int64(answer.size) > int64(max) {
		return nil, fmt.Errorf("fetch data %.8s from %s: %d bytes offered, at most %d wanted", sha256hex, peer, answer.size, max)
	}
	data := make([]byte, answer.size)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, fmt.Errorf("fetch data %.8s from %s at %s: %w", sha256hex, peer, address, err)
	}
	if sha256.Sum256(data) != h.hash {
		return nil, fmt.Errorf("fetch data %.8s from %s: what came has another hash", sha256hex, peer)
	}
	return data, nil
}
