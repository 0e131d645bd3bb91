// Package rtp carries media in RTP packets over UDP: late is worse than lost. It carries audio/L16, audio/PCMU,
// audio/PCMA, audio/opus (whose ADUs are packets of Opus) and text/t140 (text as it is typed, in UTF-8). The packets are
// SRTP, keyed by the hop's TLS session, which stays as the back channel for events and the end of the stream.
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
	// PlayoutMost, when not 0, makes the playout as long as the measured jitter wants and no longer: it begins with
	// Playout, grows at once, shrinks in pauses (and slowly between them), and is never longer than this, nor than the
	// part of the path's latency budget that may be spent on it (connectors.Hop.Playout).
	PlayoutMost time.Duration
	// AtExit has a playout only where what flows is played to a listener (connectors.Hop.Exit): held at every hop of a
	// path, each would add its delay.
	AtExit bool
	// Conceal stands in for packets that are lost, so that what is listened to, by a person or an operator, keeps its
	// time; nil delivers nothing for them.
	Conceal Conceal
	// Linger is how long Close waits for the receiving end to know of the end; 0 is 2 s.
	Linger time.Duration

	bound bool // of PlayoutMost: the path's budget says so
}

// defaultReorder is how long a missing packet is waited for.
const defaultReorder = 40 * time.Millisecond

// scheme is how addresses begin.
const scheme = "rtp"

// New makes the transport.
func New(cfg Config) connectors.Transport {
	if cfg.Reorder == 0 {
		cfg.Reorder = defaultReorder
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
	p, err := t.cfg.Hops.ExpectPackets(ctx, scheme, h)
	if err != nil {
		return nil, err
	}
	cfg := t.cfg
	if cfg.AtExit && !h.Exit {
		cfg.Playout, cfg.PlayoutMost = 0, 0
	}
	if h.Playout > 0 && h.Playout < cfg.PlayoutMost { // a wide bound asks for nothing
		cfg.Playout, cfg.PlayoutMost, cfg.bound = min(cfg.Playout, h.Playout), h.Playout, true
	}
	return pending{PacketPending: p, format: f, typ: h.Type, cfg: cfg}, nil
}

// Dial implements connectors.Transport.
func (t *transport) Dial(ctx context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	f, err := formatOf(h.Type)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", h.Name, err)
	}
	s, conn, err := hop.DialPackets(ctx, hop.DialConfig{
		Identity: t.cfg.Identity, World: t.cfg.World, Scheme: scheme, Address: address, Hop: h,
		Carrier: t.cfg.Hops.Carrier(),
		Extra:   wantsReports,
	})
	if err != nil {
		return nil, err
	}
	w, err := newWriter(s, conn, f, t.cfg.Linger)
	if err != nil {
		conn.Close()
		s.Abandon(err)
		return nil, fmt.Errorf("dial %s: %w", h.Name, err)
	}
	s.Begin(hop.Handler{Flush: w.flush, Event: w.events.Put, Report: w.report, Ended: w.events.Close})
	return w, nil
}

type pending struct {
	*hop.PacketPending
	format format
	typ    connectors.Type
	cfg    Config
}

// Accept implements connectors.Pending.
func (p pending) Accept(ctx context.Context) (connectors.Reader, error) {
	s, in, err := p.PacketPending.Accept(ctx)
	if err != nil {
		return nil, err
	}
	r, err := newReader(s, in, p.format, p.typ, p.cfg)
	if err != nil {
		in.Close()
		s.Abandon(err)
		return nil, err
	}
	return r, nil
}
