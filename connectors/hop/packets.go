package hop

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

	"ninja/connectors"
)

// PacketPending is a Pending of a hop whose ADUs travel in datagrams beside the session: a socket waits with it, and the
// sender is told the port.
type PacketPending struct {
	*Pending
	conn net.PacketConn

	mu    sync.Mutex
	taken bool
}

// ExpectPackets makes the server wait for the sender of h over a transport of datagrams. The socket is opened on the
// server's address.
func (s *Server) ExpectPackets(ctx context.Context, scheme string, h connectors.Hop) (*PacketPending, error) {
	conn, err := s.cfg.World.Net.ListenPacket(ctx, "udp", net.JoinHostPort(s.Host(), "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	if u, ok := conn.(*net.UDPConn); ok {
		u.SetReadBuffer(receiveBuffer) // as much of it as the system allows
	}
	_, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen for %s: %w", h.Name, err)
	}
	p, err := s.Expect(scheme, h, port)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &PacketPending{Pending: p, conn: conn}, nil
}

// receiveBuffer is what a socket should hold while its reader is busy, in bytes.
const receiveBuffer = 512 << 10

// Accept waits for the sender. The caller must Begin the session and owns the socket.
func (p *PacketPending) Accept(ctx context.Context) (*Session, net.PacketConn, error) {
	s, err := p.Pending.Accept(ctx)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = true
	return s, p.conn, nil
}

// Close gives up waiting.
func (p *PacketPending) Close() error {
	err := p.Pending.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken {
		p.conn.Close()
	}
	return err
}

// DialPackets connects the sending end of a hop whose ADUs travel in datagrams, and opens its socket. The caller must
// Begin the session. The receiving end names its port only: datagrams go to the host that proved itself, so that nobody
// can be made a target by being named.
func DialPackets(ctx context.Context, cfg DialConfig) (*Session, net.Conn, error) {
	s, err := Dial(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	conn, err := dialPackets(ctx, cfg, s.Extra())
	if err != nil {
		s.Abandon(err)
		return nil, nil, fmt.Errorf("dial hop %s of path %s: %w", cfg.Hop.Name, cfg.Hop.Path, err)
	}
	return s, conn, nil
}

func dialPackets(ctx context.Context, cfg DialConfig, extra string) (net.Conn, error) {
	port, err := strconv.ParseUint(extra, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the receiving end gave the port %.20q", extra)
	}
	a, err := connectors.ParseAddress(cfg.Scheme, cfg.Address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(a.Host)
	if err != nil {
		return nil, err
	}
	return cfg.World.Net.Dial(ctx, "udp", net.JoinHostPort(host, strconv.FormatUint(port, 10)))
}
