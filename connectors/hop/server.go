// Package hop is what the hops between processes stand on: one listening mutual-TLS address a process, and one TLS
// session a hop. The sending end dials and says hello with the stream, the path's epoch and the type; the receiving end
// knows what it waits for and refuses everything else with a reason. The session then carries the ADUs (package tcp), or
// keys the packets that carry them (package rtp), and in both cases the events, the end of the stream and the probes of
// the round trip.
//
// The same address serves external data by its hash to any peer with a valid identity.
package hop

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/internal/world"
)

// The protocols that both ends name in the TLS handshake: the second is spoken by ends that have trunks (Carrier) and is
// the first but for that.
const (
	alpn       = "ninja-hop/1"
	alpnTrunks = "ninja-hop/2"
)

// protocols lists what an end speaks, the preferred first.
func protocols(trunks bool) []string {
	if trunks {
		return []string{alpnTrunks, alpn}
	}
	return []string{alpn}
}

// Reason says why a hello was refused.
type Reason uint8

// Reasons.
const (
	// UnknownStream is for a stream that nobody waits for: never made, already taken, or given up.
	UnknownStream Reason = 1 + iota
	// WrongPeer is for a peer that is not the one the hop is for.
	WrongPeer
	// WrongEpoch is for an epoch that is not the hop's, as that of a path since repaired.
	WrongEpoch
	// WrongType is for another type or another transport than the hop's.
	WrongType
	// UnknownData is for data that this process does not serve.
	UnknownData
	// TooLarge is for data that is larger than was asked for.
	TooLarge
	// Malformed is for a hello that cannot be read.
	Malformed
	// Unable is for a hop that the receiving end could not open.
	Unable
)

// Refused is the error of a Dial or Fetch that the other end refused. It wraps connectors.ErrRefused.
type Refused struct {
	Reason Reason
	Text   string
}

// Error implements error.
func (r *Refused) Error() string { return fmt.Sprintf("%v: %s", connectors.ErrRefused, r.Text) }

// Unwrap gives connectors.ErrRefused.
func (r *Refused) Unwrap() error { return connectors.ErrRefused }

// Config of a Server.
type Config struct {
	// Identity is who the process is; required.
	Identity *ca.Identity
	// World is required.
	World world.World
	// Address is the host and port to listen at; a port of 0 is a free one. Required.
	Address string
	// Advertise is the host and port that others reach the address by; "" is the address itself.
	Advertise string
	// HelloTimeout bounds the handshake and the hello; 0 is 5 s.
	HelloTimeout time.Duration
	// MaxSessions bounds the sessions and those that have not said hello yet; 0 is 1024.
	MaxSessions int
	// MaxPending bounds the hops that wait for their senders; 0 is 4096.
	MaxPending int
	// Carrier is the trunks of this process, which carry its datagram hops from and to other processes that have some;
	// nil gives each hop a socket. Whoever made it closes it, after the server has stopped.
	Carrier Carrier
	// Log may be nil.
	Log *slog.Logger
}

// Server is the one hop address of a process.
type Server struct {
	cfg       Config
	tls       *tls.Config
	listener  net.Listener
	advertise string
	slots     chan struct{}
	handlers  sync.WaitGroup
	stop      chan struct{}
	stopOnce  sync.Once

	mu      sync.Mutex
	pending map[connectors.StreamID]*Pending
	data    map[[32]byte][]byte
}

// NewServer listens; Run serves, and releases what NewServer took.
func NewServer(cfg Config) (*Server, error) {
	if cfg.HelloTimeout == 0 {
		cfg.HelloTimeout = 5 * time.Second
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = 1024
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 4096
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := cfg.World.Net.Listen(context.Background(), "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for hops at %s: %w", cfg.Address, err)
	}
	c := cfg.Identity.ServerTLS(nil) // who may speak on a hop is decided by its hello
	c.NextProtos = protocols(cfg.Carrier != nil)
	c.DynamicRecordSizingDisabled = true
	s := &Server{
		cfg: cfg, tls: c, listener: l, advertise: cfg.Advertise, stop: make(chan struct{}),
		slots:   make(chan struct{}, cfg.MaxSessions),
		pending: make(map[connectors.StreamID]*Pending), data: make(map[[32]byte][]byte),
	}
	if s.advertise == "" {
		s.advertise = l.Addr().String()
	}
	return s, nil
}

// Carrier is that of the configuration; nil on a nil Server, which a process that only dials has.
func (s *Server) Carrier() Carrier {
	if s == nil {
		return nil
	}
	return s.cfg.Carrier
}

// Addr is the host and port that others dial.
func (s *Server) Addr() string { return s.advertise }

// Host is the local address without its port: where a transport opens sockets of its own.
func (s *Server) Host() string {
	host, _, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		return ""
	}
	return host
}

// Run accepts hops until ctx ends; then it ends every session, waits for them, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	defer s.handlers.Wait()
	defer context.AfterFunc(ctx, s.close)()
	defer s.close()
	for {
		conn, err := s.listener.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			s.cfg.Log.Warn("accept a hop", "err", err)
			if world.Sleep(ctx, s.cfg.World.Jitter(100*time.Millisecond)) != nil {
				return nil
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
			s.handlers.Go(func() {
				defer func() { <-s.slots }()
				s.serve(ctx, conn)
			})
		default:
			s.cfg.Log.Warn("hop refused: too many sessions", "from", conn.RemoteAddr(), "max", s.cfg.MaxSessions)
			conn.Close()
		}
	}
}

// Close stops listening and ends every session; Run then returns. It may be called again, and instead of Run.
func (s *Server) Close() error {
	s.close()
	return nil
}

func (s *Server) close() {
	s.stopOnce.Do(func() {
		close(s.stop)
		s.listener.Close()
	})
}

// serve does one connection from handshake to end.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	unwatch := context.AfterFunc(ctx, func() { raw.Close() })
	defer unwatch()
	conn := tls.Server(raw, s.tls)
	conn.SetDeadline(time.Now().Add(s.cfg.HelloTimeout))
	log := s.cfg.Log.With("from", raw.RemoteAddr().String())
	err := conn.HandshakeContext(ctx)
	var peer ca.Peer
	if err == nil {
		peer, err = s.cfg.Identity.PeerOf(conn.ConnectionState())
	}
	if err != nil {
		log.Info("hop handshake failed", "err", err)
		return
	}
	log = log.With("peer", peer.ID)
	r := received{conn: conn, in: newBuffer(conn), peer: peer}
	k, body, err := readFrame(r.in)
	if err == nil && k == kindHello {
		r.hello, err = parseHello(body)
	}
	trunks := conn.ConnectionState().NegotiatedProtocol == alpnTrunks
	if err != nil || k != kindHello || r.hello.purpose == purposeTrunk && !trunks {
		s.answer(conn, welcome{status: Malformed, text: "the hello cannot be read"})
		log.Info("hop hello cannot be read", "err", err)
		return
	}
	switch r.hello.purpose {
	case purposeData:
		s.serveData(conn, r.hello)
	case purposeTrunk:
		s.serveTrunk(ctx, r)
	default:
		s.serveHop(ctx, r, trunks, log, unwatch)
	}
}

// received is a connection whose hello was read.
type received struct {
	conn  *tls.Conn
	in    *bufio.Reader
	peer  ca.Peer
	hello hello
}

// session makes the session.
func (r received) session(id *ca.Identity, w world.World) *Session {
	r.conn.SetDeadline(time.Time{})
	return newSession(id, r.conn, r.in, r.peer, w, r.hello.stream, r.hello.epoch, r.hello.extra)
}

// serveHop gives the session to the hop that waits for it.
func (s *Server) serveHop(ctx context.Context, r received, trunks bool, log *slog.Logger, unwatch func() bool) {
	h := r.hello
	p, refused := s.match(h, r.peer)
	extra := ""
	if refused == nil {
		extra = p.extra
		if p.open != nil {
			var err error
			if extra, err = p.open(ctx, r.peer.ID, trunks); err != nil {
				refused = &Refused{Unable, "the hop could not be opened"}
				log.Warn("open a hop", "err", err, "path", h.path, "hop", h.name)
			}
		}
	}
	if refused != nil {
		s.answer(r.conn, welcome{status: refused.Reason, text: refused.Text})
		log.Warn("hop refused", "reason", refused.Text, "path", h.path, "hop", h.name, "epoch", h.epoch)
		return
	}
	if err := s.answer(r.conn, welcome{extra: extra}); err != nil {
		log.Info("hop lost before it began", "err", err) // its reader will see that too
	}
	session := r.session(s.cfg.Identity, s.cfg.World)
	session.trunk = extra == onTrunk
	unwatch()
	s.hold(p, session)
}

// hold hands a session to whoever accepts it and waits for its end.
func (s *Server) hold(p *Pending, session *Session) {
	p.arrived <- session // room for one, and one alone was matched
	closed := p.closed
	for {
		select {
		case <-session.done:
			session.wait()
			return
		case <-s.stop:
			session.fail(errStopped)
		case <-closed:
			closed = nil
			select {
			case <-p.arrived: // nobody took it
				session.fail(connectors.ErrClosed)
			default:
			}
		}
	}
}

var errStopped = errors.New("this process is stopping")

func (s *Server) answer(conn net.Conn, w welcome) error {
	_, err := conn.Write(appendFrame(nil, kindWelcome, w.append))
	return err
}
