// Package trunk carries the datagrams of many streams between two processes as one: sealed under one key, grouped by size
// and handed to the kernel many at a time (UDP_SEGMENT), taken from it many at a time (UDP_GRO). A datagram waits at most
// 1 ms for company. Where the kernel or the network does not offload, datagrams go one by one.
//
// A trunk is one way and is set up like a hop: one TLS session, whose exporter gives the key, bound to the trunk's own
// stream and epoch. Nothing is sent again; datagrams of one stream that differ in size may change places within the
// millisecond. That each stream's order and loss are its own concern is what the streams that ride on it (rtp, udp) know
// already.
package trunk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"ninja/ca"
	"ninja/ca/seal"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/internal/world"
)

// A datagram is sealed (package seal), which pads it: there are eleven lengths, so that many datagrams are equally long,
// as UDP_SEGMENT wants it. The payload of the seal is:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------------------------------------------------------+
//	|                         stream (64)                           |
//	+---------------------------------------------------------------+
//	|                         epoch (32)                            |
//	+---------------------------------------------------------------+
//	|   the stream's own datagram ...
//	+----------------------------------
const (
	headerSize  = 12
	exportLabel = "EXPORTER-ninja-trunk"
	// kindTrunk is the kind of the sealed datagram.
	kindTrunk = 2
	// MaxPayload is the longest datagram of a stream, in bytes.
	MaxPayload = seal.MaxPayload - headerSize
)

// scheme is how addresses begin.
const scheme = "trunk"

// Type is what the hop of a trunk says that it carries.
const Type = "application/vnd.ninja.trunk"

// Pending is the receiving end that waits for its sender.
type Pending struct{ *hop.PacketPending }

// Listen prepares the receiving end of a trunk from the peer that h names; the type of h is set.
func Listen(ctx context.Context, s *hop.Server, h connectors.Hop) (Pending, error) {
	h.Type = connectors.MustType(Type)
	p, err := s.ExpectPackets(ctx, scheme, h)
	return Pending{p}, err
}

// Accept waits for the sender.
func (p Pending) Accept(ctx context.Context) (*In, error) {
	s, conn, err := p.PacketPending.Accept(ctx)
	if err != nil {
		return nil, err
	}
	in, err := newIn(s, conn)
	if err != nil {
		conn.Close()
		s.Abandon(err)
	}
	return in, err
}

// DialConfig says which trunk to dial as whom.
type DialConfig struct {
	// Identity and World are required.
	Identity *ca.Identity
	World    world.World
	// Address is what the receiving end's Pending gave.
	Address string
	// Hop names the receiving end in Peer, which is required; its type is set.
	Hop connectors.Hop
	// OneByOne does without the kernel's help, for comparison.
	OneByOne bool
}

// Dial connects the sending end of a trunk.
func Dial(ctx context.Context, cfg DialConfig) (*Out, error) {
	cfg.Hop.Type = connectors.MustType(Type)
	s, conn, err := hop.DialPackets(ctx, hop.DialConfig{
		Identity: cfg.Identity, World: cfg.World, Scheme: scheme, Address: cfg.Address, Hop: cfg.Hop,
	})
	if err != nil {
		return nil, err
	}
	out, err := newOut(s, conn, cfg.OneByOne)
	if err != nil {
		conn.Close()
		s.Abandon(err)
		return nil, fmt.Errorf("dial %s: %w", cfg.Hop.Name, err)
	}
	return out, nil
}

func secrets(s *hop.Session) (key []byte, handle uint64, err error) {
	b, err := s.Export(exportLabel, seal.KeySize+8)
	if err != nil {
		return nil, 0, fmt.Errorf("derive the key of the trunk: %w", err)
	}
	return b[:seal.KeySize], binary.BigEndian.Uint64(b[seal.KeySize:]), nil
}

func appendHeader(b []byte, stream uint64, epoch uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, stream), epoch)
}

var errShort = errors.New("too short for a trunk")

// parse splits what a seal held.
func parse(b []byte) (stream uint64, epoch uint32, payload []byte, err error) {
	if len(b) < headerSize {
		return 0, 0, nil, errShort
	}
	return binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), b[headerSize:], nil
}

// udp returns the kernel's socket, where there is one.
func udp(c any) *net.UDPConn {
	u, _ := c.(*net.UDPConn)
	return u
}
