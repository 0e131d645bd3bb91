// Package udp carries any type in sealed datagrams: an ADU in one, or in several when it must be. What is lost is not
// sent again, so that nothing waits for it; the hop's TLS session keys the datagrams and stays as the back channel.
//
// What it promises: order, no duplicates, authenticity, back pressure; an ADU comes whole or not at all; marks and the
// end of the stream always arrive. What it does not: that every ADU arrives (Stats.Lost). A mark whose ADU was lost is
// delivered with an empty payload.
//
// Back pressure is credit: the sender may be 64 datagrams ahead of what the reader has taken from its socket, which any
// socket holds. That also bounds the rate, to some 85 kB a round trip. There is no other congestion control: a hop whose
// ADUs must all arrive, or that shares a thin link with others, is better served by tcp.
package udp

import (
	"context"
	"fmt"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/internal/world"
)

// Config of a Transport.
type Config struct {
	// Hops is where Listen waits for senders; nil makes a transport that only dials.
	Hops *hop.Server
	// Identity and World are required.
	Identity *ca.Identity
	World    world.World
	// Reorder is how long a missing datagram is waited for once a later one has come; 0 is 40 ms.
	Reorder time.Duration
	// Linger is how long Close waits for the receiving end to know of the end; 0 is 2 s.
	Linger time.Duration
}

// scheme is how addresses begin.
const scheme = "udp"

// New makes the transport.
func New(cfg Config) connectors.Transport {
	if cfg.Reorder == 0 {
		cfg.Reorder = 40 * time.Millisecond
	}
	if cfg.Linger == 0 {
		cfg.Linger = 2 * time.Second
	}
	return &transport{cfg}
}

type transport struct{ cfg Config }

// Scheme implements connectors.Transport.
func (*transport) Scheme() string { return scheme }

// Listen implements connectors.Transport.
func (t *transport) Listen(ctx context.Context, h connectors.Hop) (connectors.Pending, error) {
	if t.cfg.Hops == nil {
		return nil, fmt.Errorf("listen for %s: this process has no hop server", h.Name)
	}
	p, err := t.cfg.Hops.ExpectPackets(ctx, scheme, h)
	if err != nil {
		return nil, err
	}
	return pending{PacketPending: p, cfg: t.cfg}, nil
}

// Dial implements connectors.Transport.
func (t *transport) Dial(ctx context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	s, conn, err := hop.DialPackets(ctx, hop.DialConfig{
		Identity: t.cfg.Identity, World: t.cfg.World, Scheme: scheme, Address: address, Hop: h,
		Carrier: t.cfg.Hops.Carrier(),
	})
	if err != nil {
		return nil, err
	}
	w, err := newWriter(s, conn, t.cfg.Linger)
	if err != nil {
		conn.Close()
		s.Abandon(err)
		return nil, fmt.Errorf("dial %s: %w", h.Name, err)
	}
	s.Begin(hop.Handler{Flush: w.flush, Event: w.events.Put, Credit: w.grant, Ended: w.events.Close})
	return w, nil
}

type pending struct {
	*hop.PacketPending
	cfg Config
}

// Accept implements connectors.Pending.
func (p pending) Accept(ctx context.Context) (connectors.Reader, error) {
	s, in, err := p.PacketPending.Accept(ctx)
	if err != nil {
		return nil, err
	}
	r, err := newReader(s, in, p.cfg)
	if err != nil {
		in.Close()
		s.Abandon(err)
		return nil, err
	}
	return r, nil
}
