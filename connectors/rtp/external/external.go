// Package external speaks RTP and SRTP with programs that are no part of the system: a media server, a telephone, a
// command line. They have no identity and no hop session, only an address. So that a path cannot be made a cannon (nobody
// is sent media who did not ask for it), three things stand before the first packet of media:
//
//  1. the node's own allow-list names the address (Rule);
//  2. the address has answered a challenge, which only whoever receives there can (consent.go);
//  3. the answer is not older than 30 s: it is asked for again and again (as RFC 7675 does).
//
// The other way only packets from allowed addresses are taken. A Session is one socket pair (RTP and RTCP, RFC 3550, 11) with a
// connectors.Writer and a connectors.Reader on it, for sound or for text as it is typed (RFC 4103). What they promise is
// what RTP does: order and no duplicates; packets may be lost; marks do not travel; nobody is there to take an event.
package external

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"ninja/connectors"
	"ninja/connectors/rtp"
	"ninja/internal/world"
)

// Errors of Open and of a Writer.
var (
	// ErrNotAllowed is wrapped for an address that no rule of the node's allow-list names. Nothing was sent to it.
	ErrNotAllowed = errors.New("the address is not in this node's allow-list")
	// ErrNoConsent is wrapped when an address does not answer the challenge, or no longer does.
	ErrNoConsent = errors.New("the address did not answer the challenge")
)

// Config of an Edge.
type Config struct {
	// World is required.
	World world.World
	// Local is the address that sockets are opened at; required.
	Local netip.Addr
	// Allow is the allow-list; without a rule nothing is allowed.
	Allow []Rule
	// Log may be nil.
	Log *slog.Logger
}

// Edge makes sessions. It is safe for use by many goroutines.
type Edge struct {
	cfg Config

	mu       sync.Mutex
	sessions map[netip.AddrPort]*Session // by remote address: one each
	asked    map[netip.Addr]time.Time    // when a host was last sent a challenge
}

// maxSessions bounds the sessions of an Edge.
const maxSessions = 1024

// New makes an Edge.
func New(cfg Config) (*Edge, error) {
	if cfg.World.Now == nil || !cfg.Local.IsValid() {
		return nil, errors.New("external RTP wants its surroundings and a local address")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Edge{cfg: cfg, sessions: make(map[netip.AddrPort]*Session), asked: make(map[netip.Addr]time.Time)}, nil
}

// Call says what to open.
type Call struct {
	// Remote is rtp://ADDRESS:PORT or srtp://ADDRESS:PORT; "" only receives, from any allowed address.
	Remote string
	// Local is the port to receive at, RTCP at the next one; 0 is a free even one.
	Local uint16
	// Type is what flows, both ways; audio/L16, audio/PCMU, audio/PCMA, audio/opus or text/t140.
	Type connectors.Type
	// PayloadType is the RTP payload type; 0 is the usual one of the type (0, 8, 96, 111; 100 for text with its redundancy).
	PayloadType uint8
	// TextType is the payload type of text inside its redundancy, and of text that comes without; 0 is 99.
	TextType uint8
	// Out and In key SRTP, each as the value of an a=crypto line of SDP (RFC 4568) without its tag, such as
	// "AES_CM_128_HMAC_SHA1_80 inline:BASE64". Both are required for srtp, and have no place with rtp. A key serves one
	// session: give a new one each time.
	Out, In string
	// Silence is after how long without a packet a reader gives up; 0 is 10 s, and for text, which nobody types all the
	// time, never. Before the first packet it waits for ever.
	Silence time.Duration
}

// payloadType and textType are those of the call, or the usual ones.
func (c *Call) payloadType(f rtp.Format) uint8 { return cmp.Or(c.PayloadType, f.PayloadType()) }
func (c *Call) textType() uint8                { return cmp.Or(c.TextType, rtp.TextPayloadType) }

// ParseRemote reads rtp://ADDRESS:PORT and srtp://ADDRESS:PORT. Names are refused: what was checked must be what is used.
func ParseRemote(s string) (at netip.AddrPort, secure bool, err error) {
	rest, plain := strings.CutPrefix(s, "rtp://")
	if !plain {
		rest, secure = strings.CutPrefix(s, "srtp://")
	}
	at, err = netip.ParseAddrPort(rest)
	switch {
	case !plain && !secure || err != nil || len(s) > 128:
		return at, secure, fmt.Errorf("address %.80q: want rtp://ADDRESS:PORT or srtp://ADDRESS:PORT, with a number and not a name", s)
	case at.Port() == 0 || at.Port() == 65535 || at.Addr().IsUnspecified() || at.Addr().IsMulticast() || at.Addr().Is4In6() || at.Addr().Zone() != "":
		return at, secure, fmt.Errorf("address %.80q: want one host's own address and a port", s)
	}
	return at, secure, nil
}

// Open opens a session. It sends nothing but, when there is a remote address, challenges: at most one a second to a host.
func (e *Edge) Open(ctx context.Context, c Call) (*Session, error) {
	s, err := e.open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Remote, err)
	}
	return s, nil
}

// plan is what a call comes to before anything is opened.
type plan struct {
	format rtp.Format
	remote netip.AddrPort
	rule   Rule
}

// check reports why a call would be refused before anything is opened.
func (e *Edge) check(c Call) error {
	_, err := e.plan(c)
	return err
}

func (e *Edge) plan(c Call) (p plan, err error) {
	if p.format, err = rtp.FormatOf(c.Type); err != nil {
		return p, err
	}
	if textType := c.textType(); p.format.Text() && (c.payloadType(p.format) == textType || textType > 127) {
		return p, fmt.Errorf("payload type %d: text and its redundancy want two of their own, below 128", textType)
	}
	if c.Remote == "" {
		return p, nil
	}
	at, secure, err := ParseRemote(c.Remote)
	if err != nil {
		return p, err
	}
	if secure != (c.Out != "" || c.In != "") {
		return p, errors.New("srtp wants keys for both directions, rtp none")
	}
	for _, r := range e.cfg.Allow {
		if r.Allows(at) {
			p.remote, p.rule = at, r
			return p, nil
		}
	}
	return p, fmt.Errorf("%w: add a rule such as %q", ErrNotAllowed, at.String())
}

func (e *Edge) open(ctx context.Context, c Call) (*Session, error) {
	p, err := e.plan(c)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(c.Out, c.In)
	if err != nil {
		return nil, err
	}
	media, control, err := e.sockets(ctx, c.Local)
	if err != nil {
		return nil, err
	}
	s := newSession(e, c, p, keys, media, control)
	if err := e.admit(s); err != nil {
		media.Close()
		control.Close()
		return nil, err
	}
	s.start()
	return s, nil
}

// admit takes a session in; an address has one at a time.
func (e *Edge) admit(s *Session) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := s.remote
	if !key.IsValid() {
		key = s.Addr()
	}
	if _, taken := e.sessions[key]; taken {
		return fmt.Errorf("%s has a session already", key)
	}
	if len(e.sessions) >= maxSessions {
		return fmt.Errorf("%d sessions are open already", maxSessions)
	}
	s.key = key
	e.sessions[key] = s
	return nil
}

func (e *Edge) leave(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sessions, s.key)
}

// mayAsk reports whether a host may be sent a challenge now, over all sessions: one a second.
func (e *Edge) mayAsk(host netip.Addr, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if last, ok := e.asked[host]; ok && now.Sub(last) < time.Second {
		return false
	}
	if len(e.asked) > 4*maxSessions {
		for h, at := range e.asked {
			if now.Sub(at) > time.Second {
				delete(e.asked, h)
			}
		}
	}
	e.asked[host] = now
	return true
}

// sockets opens a pair of sockets on an even port and the next one.
func (e *Edge) sockets(ctx context.Context, port uint16) (media, control net.PacketConn, err error) {
	if port == 65535 {
		return nil, nil, errors.New("port 65535 leaves none for RTCP")
	}
	for range 20 {
		media, err = e.cfg.World.Net.ListenPacket(ctx, "udp", netip.AddrPortFrom(e.cfg.Local, port).String())
		if err != nil {
			return nil, nil, err
		}
		at := addrOf(media.LocalAddr())
		if port == 0 && (at.Port()%2 == 1 || at.Port() == 65535) {
			media.Close()
			continue
		}
		control, err = e.cfg.World.Net.ListenPacket(ctx, "udp", netip.AddrPortFrom(e.cfg.Local, at.Port()+1).String())
		if err == nil {
			return media, control, nil
		}
		media.Close()
		if port != 0 {
			break
		}
	}
	if err == nil {
		err = errors.New("no pair of ports is free")
	}
	return nil, nil, err
}

func addrOf(a net.Addr) netip.AddrPort {
	if u, ok := a.(*net.UDPAddr); ok {
		p := u.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
