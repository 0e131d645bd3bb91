// Package webrtc carries media by WebRTC: ICE finds the way, DTLS keys it, sound travels as SRTP (audio/opus, audio/PCMU,
// audio/PCMA) and everything else on a reliable data channel (RFC 8825, 8835, 8831).
//
// Between two nodes it is a transport as the others are. The hop's TLS session stays the back channel for events and the
// end of the stream; it also carries the signalling: all that ICE and DTLS want to know of the other end fits into the
// hello and its answer, so that nothing is added to the session and the DTLS certificates are bound to the identities
// that the session proved. Sound means what it means on rtp (order, no duplicates, the media's own pace, loss);
// everything else what it means on tcp (order, no loss, back pressure).
//
// Towards a browser, Answer makes a Peer: see there.
package webrtc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pion/transport/v4"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/connectors/rtp"
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
	// Linger is how long Close waits for the receiving end to have everything; 0 is 2 s.
	Linger time.Duration

	net transport.Net // of tests; nil is the system's
}

// scheme is how addresses begin.
const scheme = "webrtc"

// connectTime bounds ICE and DTLS.
const connectTime = 15 * time.Second

// New makes the transport.
func New(cfg Config) connectors.Transport {
	if cfg.Reorder == 0 {
		cfg.Reorder = 40 * time.Millisecond
	}
	if cfg.Linger == 0 {
		cfg.Linger = 2 * time.Second
	}
	return &hops{cfg}
}

type hops struct{ cfg Config }

// Carries reports whether the transport carries the type, and says why not.
func Carries(t connectors.Type) error {
	_, err := flowOf(t)
	return err
}

// flow is how a type travels: sound by packets of a format, all else by a channel.
type flow struct {
	sound  bool
	format rtp.Format
	mime   string
}

func flowOf(t connectors.Type) (flow, error) {
	if !strings.HasPrefix(t.Media(), "audio/") {
		return flow{}, nil
	}
	f, err := rtp.FormatOf(t)
	if err != nil {
		return flow{}, err
	}
	telephone := f.ClockRate() == 8000 && f.Sample() == 1
	if !f.Whole() && !(telephone && t.Media() != "audio/L16") {
		return flow{}, fmt.Errorf("type %s: webrtc carries audio/opus, and audio/PCMU and audio/PCMA of one channel at 8000", t)
	}
	return flow{sound: true, format: f, mime: t.Media()}, nil
}

// Scheme implements connectors.Transport.
func (*hops) Scheme() string { return scheme }

// Listen implements connectors.Transport.
func (t *hops) Listen(ctx context.Context, h connectors.Hop) (connectors.Pending, error) {
	f, err := flowOf(h.Type)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	if t.cfg.Hops == nil {
		return nil, fmt.Errorf("listen for %s: this process has no hop server", h.Name)
	}
	at, err := netip.ParseAddr(t.cfg.Hops.Host())
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	l, err := newLink(ctx, at, f, t.cfg.net)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	p, err := t.cfg.Hops.Expect(scheme, h, l.local.String())
	if err != nil {
		l.close()
		return nil, err
	}
	return &pending{Pending: p, link: l, flow: f, cfg: t.cfg}, nil
}

// Dial implements connectors.Transport.
func (t *hops) Dial(ctx context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	w, err := t.dial(ctx, address, h)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", h.Name, err)
	}
	return w, nil
}

func (t *hops) dial(ctx context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	f, err := flowOf(h.Type)
	if err != nil {
		return nil, err
	}
	at, err := t.route(ctx, address)
	if err != nil {
		return nil, err
	}
	l, err := newLink(ctx, at, f, t.cfg.net)
	if err != nil {
		return nil, err
	}
	var track *track
	if f.sound {
		if track, err = newTrack(l, f, t.cfg.World); err != nil {
			l.close()
			return nil, err
		}
	}
	s, err := hop.Dial(ctx, hop.DialConfig{
		Identity: t.cfg.Identity, World: t.cfg.World, Scheme: scheme, Address: address, Hop: h, Extra: l.local.String(),
	})
	if err != nil {
		l.close()
		return nil, err
	}
	remote, err := parseParams(s.Extra())
	if err != nil {
		s.Abandon(err)
		l.close()
		return nil, err
	}
	if f.sound {
		return newSoundWriter(s, l, remote, track, t.cfg.Linger), nil
	}
	return newDataWriter(s, l, remote, t.cfg.Linger), nil
}

// route is the local address that datagrams to the hop's host leave from: the one candidate that a dialing end offers,
// because the TLS connection took the same way.
func (t *hops) route(ctx context.Context, address string) (netip.Addr, error) {
	a, err := connectors.ParseAddress(scheme, address)
	if err != nil {
		return netip.Addr{}, err
	}
	c, err := t.cfg.World.Net.Dial(ctx, "udp", a.Host)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(host)
}

type pending struct {
	*hop.Pending
	link *link
	flow flow
	cfg  Config
}

// Accept implements connectors.Pending.
func (p *pending) Accept(ctx context.Context) (connectors.Reader, error) {
	s, err := p.Pending.Accept(ctx)
	if err != nil {
		return nil, err
	}
	p.link.taken.Store(true)
	remote, err := parseParams(s.Extra())
	if err != nil {
		p.link.close()
		s.Abandon(err)
		return nil, err
	}
	if p.flow.sound {
		return newSoundReader(s, p.link, remote, p.flow, p.cfg.Reorder), nil
	}
	return newDataReader(s, p.link, remote), nil
}

// Close implements connectors.Pending.
func (p *pending) Close() error {
	err := p.Pending.Close()
	if !p.link.taken.Load() {
		p.link.close()
	}
	return err
}
