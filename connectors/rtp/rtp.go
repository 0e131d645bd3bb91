// Package rtp carries audio in SRTP packets over UDP: late is worse than lost. It carries audio/L16, audio/PCMU and
// audio/PCMA. The hop's TLS session keys the packets and stays as the back channel for events and the end of the stream.
//
// What it promises: order, no duplicates, authenticity; marks and the end of the stream always arrive. What it does not:
// that every packet arrives (Stats.Lost), and back pressure from the receiver: the sender keeps to the media's own time
// instead, at most 60 ms ahead of it, and a receiver that reads too slowly loses what its socket cannot hold.
//
// One ADU becomes one packet, or several of at most 1,200 bytes cut between samples; each packet is delivered as an ADU
// of its own, the last with the mark. A mark whose packet was lost is delivered with an empty payload.
package rtp

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
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
	// Reorder is how long a missing packet is waited for once a later one has come; 0 is 40 ms.
	Reorder time.Duration
	// Playout holds every packet until its media time plus this, which smooths the jitter of the link: for the end that
	// plays to a listener. 0 delivers as soon as the order allows, which operators want.
	Playout time.Duration
	// Linger is how long Close waits for the receiving end to know of the end; 0 is 2 s.
	Linger time.Duration
}

// scheme is how addresses begin.
const scheme = "rtp"

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
	f, err := formatOf(h.Type)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	if t.cfg.Hops == nil {
		return nil, fmt.Errorf("listen for %s: this process has no hop server", h.Name)
	}
	conn, err := t.cfg.World.Net.ListenPacket(ctx, "udp", net.JoinHostPort(t.cfg.Hops.Host(), "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	p, err := t.cfg.Hops.Expect(scheme, h, port)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &pending{Pending: p, conn: conn, format: f, cfg: t.cfg}, nil
}

// Dial implements connectors.Transport.
func (t *transport) Dial(ctx context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	f, err := formatOf(h.Type)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", h.Name, err)
	}
	s, err := hop.Dial(ctx, hop.DialConfig{
		Identity: t.cfg.Identity, World: t.cfg.World, Scheme: scheme, Address: address, Hop: h,
	})
	if err != nil {
		return nil, err
	}
	w, err := t.open(ctx, s, address, f)
	if err != nil {
		s.Abandon(err)
		return nil, fmt.Errorf("dial %s: %w", h.Name, err)
	}
	s.Begin(hop.Handler{Flush: w.flush, Event: w.events.Put, Ended: w.events.Close})
	return w, nil
}

// open opens the sender's socket. The receiving end names its port only: packets go to the host that proved itself, so
// that nobody can be made a target by being named.
func (t *transport) open(ctx context.Context, s *hop.Session, address string, f format) (*writer, error) {
	port, err := strconv.ParseUint(s.Extra(), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the receiving end gave the port %.20q", s.Extra())
	}
	a, err := connectors.ParseAddress(scheme, address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(a.Host)
	if err != nil {
		return nil, err
	}
	conn, err := t.cfg.World.Net.Dial(ctx, "udp", net.JoinHostPort(host, strconv.FormatUint(port, 10)))
	if err != nil {
		return nil, err
	}
	w, err := newWriter(s, conn, f, t.cfg.Linger)
	if err != nil {
		conn.Close()
	}
	return w, err
}

type pending struct {
	*hop.Pending
	conn   net.PacketConn
	format format
	cfg    Config

	mu    sync.Mutex
	taken bool
}

// Accept implements connectors.Pending.
func (p *pending) Accept(ctx context.Context) (connectors.Reader, error) {
	s, err := p.Pending.Accept(ctx)
	if err != nil {
		return nil, err
	}
	r, err := newReader(s, p.conn, p.format, p.cfg)
	if err != nil {
		s.Abandon(err)
		return nil, err
	}
	p.mu.Lock()
	p.taken = true
	p.mu.Unlock()
	return r, nil
}

// Close implements connectors.Pending.
func (p *pending) Close() error {
	err := p.Pending.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken {
		p.conn.Close()
	}
	return err
}
