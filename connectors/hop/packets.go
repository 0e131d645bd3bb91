package hop

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"ninja/ca"
	"ninja/connectors"
	"ninja/internal/world"
)

// Carrier carries the datagrams of many hops between this process and others together (package trunk).
//
// Whether a hop uses it is decided by a plain rule: both ends say in the TLS handshake of the hop whether they have a
// Carrier (the protocol ninja-hop/2), and when both do, the hop has no socket and no encryption of its own. A unit at the
// edge has none and speaks SRTP.
type Carrier interface {
	// Receive opens the receiving end of a stream from the peer; closing the Queue ends it.
	Receive(peer ca.ID, stream uint64, epoch uint32) (*Queue, error)
	// Send opens the sending end: each Write is a datagram, which is copied and may be lost. address is the peer's hop
	// server.
	Send(ctx context.Context, address string, peer ca.ID, stream uint64, epoch uint32) (io.WriteCloser, error)
	// Serve takes what a peer's Carrier sends to the socket, under keys of the session, until the session ends. It owns
	// both.
	Serve(s *Session, conn net.PacketConn) error
}

// onTrunk is what the welcome says instead of a port.
const onTrunk = "trunk"

// trunkStream is the name of a hop's stream on a trunk.
func trunkStream(id connectors.StreamID) uint64 { return binary.BigEndian.Uint64(id[8:]) }

// PacketPending is a Pending of a hop whose ADUs travel in datagrams beside the session: the sender is told the port of
// a socket, or to use its trunk.
type PacketPending struct {
	*Pending

	mu     sync.Mutex
	inbox  *Inbox // once a sender is welcome
	closed bool   // or taken
}

// ExpectPackets makes the server wait for the sender of h over a transport of datagrams.
func (s *Server) ExpectPackets(_ context.Context, scheme string, h connectors.Hop) (*PacketPending, error) {
	p := &PacketPending{}
	var err error
	p.Pending, err = s.expect(scheme, h, "", p.open)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// open opens where the datagrams of the peer, who is welcome, come in, and returns what it is told.
func (p *PacketPending) open(ctx context.Context, peer ca.ID, trunks bool) (extra string, err error) {
	in, extra, err := p.listen(ctx, peer, trunks)
	if err != nil {
		return "", err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		in.Close()
		return "", connectors.ErrClosed
	}
	p.inbox = newInbox(in)
	return extra, nil
}

func (p *PacketPending) listen(ctx context.Context, peer ca.ID, trunks bool) (datagrams, string, error) {
	s := p.server
	if trunks {
		// A stream of the same name is the only reason to fail: the hop then has a socket.
		if q, err := s.cfg.Carrier.Receive(peer, trunkStream(p.hop.Stream), p.hop.Epoch); err == nil {
			return q, onTrunk, nil
		}
	}
	conn, port, err := s.listenPacket(ctx, receiveBuffer)
	if err != nil {
		return nil, "", fmt.Errorf("listen for %s: %w", p.hop.Name, err)
	}
	return newSocket(conn), port, nil
}

// listenPacket opens a socket on the server's address, which holds the bytes if the system allows, and says its port.
func (s *Server) listenPacket(ctx context.Context, holds int) (net.PacketConn, string, error) {
	conn, err := s.cfg.World.Net.ListenPacket(ctx, "udp", net.JoinHostPort(s.Host(), "0"))
	if err != nil {
		return nil, "", err
	}
	if u, ok := conn.(*net.UDPConn); ok {
		holdBytes(u, holds)
	}
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		conn.Close()
		return nil, "", err
	}
	return conn, port, nil
}

// What a socket should hold while its reader is busy, in bytes: a hop's own, and that of a trunk, on which 1,000 streams of 20 ms
// audio bring as much in 200 ms.
const (
	receiveBuffer = 512 << 10
	trunkBuffer   = 4 << 20
)

// Accept waits for the sender. The caller must Begin the session and owns the inbox.
func (p *PacketPending) Accept(ctx context.Context) (*Session, *Inbox, error) {
	s, err := p.Pending.Accept(ctx)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return s, p.inbox, nil
}

// Close gives up waiting.
func (p *PacketPending) Close() error {
	err := p.Pending.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.inbox != nil {
		p.inbox.Close()
	}
	p.closed = true
	return err
}

// DialPackets connects the sending end of a hop whose ADUs travel in datagrams, and opens where they go out: each Write is
// a datagram. The caller must Begin the session. The receiving end names its port only: datagrams go to the host that
// proved itself, so that nobody can be made a target by being named.
func DialPackets(ctx context.Context, cfg DialConfig) (*Session, io.WriteCloser, error) {
	s, err := Dial(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	conn, err := s.dialPackets(ctx, cfg)
	if err != nil {
		s.Abandon(err)
		return nil, nil, fmt.Errorf("dial hop %s of path %s: %w", cfg.Hop.Name, cfg.Hop.Path, err)
	}
	return s, conn, nil
}

func (s *Session) dialPackets(ctx context.Context, cfg DialConfig) (io.WriteCloser, error) {
	a, err := connectors.ParseAddress(cfg.Scheme, cfg.Address)
	if err != nil {
		return nil, err
	}
	if s.extra == onTrunk && cfg.Carrier != nil {
		s.trunk = true
		return cfg.Carrier.Send(ctx, a.Host, s.Peer(), trunkStream(a.Stream), cfg.Hop.Epoch)
	}
	conn, err := dialPort(ctx, cfg.World, a.Host, s.extra)
	if err != nil {
		return nil, err
	}
	return NewOutlet(conn), nil
}

// dialPort opens a socket towards a port of the host that address names.
func dialPort(ctx context.Context, w world.World, address, port string) (net.Conn, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the receiving end gave the port %.20q", port)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return w.Net.Dial(ctx, "udp", net.JoinHostPort(host, strconv.FormatUint(n, 10)))
}

// DialTrunk opens a session for a Carrier to the peer's hop server at address, and the socket that it keys. The caller
// must Begin the session.
func DialTrunk(ctx context.Context, w world.World, id *ca.Identity, address string, peer ca.ID) (*Session, net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	h := hello{purpose: purposeTrunk}
	w.Fill(h.stream[:])
	s, err := open(ctx, w, id, address, peer, h, true)
	if err != nil {
		return nil, nil, fmt.Errorf("dial the trunk to %s at %s: %w", peer, address, err)
	}
	conn, err := dialPort(ctx, w, address, s.extra)
	if err != nil {
		s.Abandon(err)
		return nil, nil, fmt.Errorf("dial the trunk to %s at %s: %w", peer, address, err)
	}
	return s, conn, nil
}

// serveTrunk gives the session of a peer's Carrier to this process's.
func (s *Server) serveTrunk(ctx context.Context, r received) {
	conn, port, err := s.listenPacket(ctx, trunkBuffer)
	if err != nil {
		s.answer(r.conn, welcome{status: Unable, text: "no socket could be opened"})
		s.cfg.Log.Warn("trunk refused", "peer", r.peer.ID, "err", err)
		return
	}
	if err := s.answer(r.conn, welcome{extra: port}); err != nil {
		conn.Close()
		return
	}
	session := r.session(s.cfg.Identity, s.cfg.World)
	s.handlers.Go(func() {
		select {
		case <-s.stop:
			session.fail(errStopped)
		case <-session.done:
		}
	})
	if err := s.cfg.Carrier.Serve(session, conn); err != nil {
		s.cfg.Log.Info("trunk ended", "peer", r.peer.ID, "err", err)
	}
}
