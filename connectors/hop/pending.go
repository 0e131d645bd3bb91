package hop

import (
	"context"
	"fmt"
	"sync"

	"ninja/ca"
	"ninja/connectors"
)

// match finds the hop that a hello is for and takes it, or says why not.
func (s *Server) match(h hello, peer ca.Peer) (*Pending, *Refused) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pending[h.stream]
	switch {
	case !ok:
		return nil, &Refused{UnknownStream, "no hop with this stream waits here; it may be taken or given up"}
	case p.hop.Peer != "" && p.hop.Peer != string(peer.ID):
		return nil, &Refused{WrongPeer, "the hop is for another peer than " + string(peer.ID)}
	case p.hop.Epoch != h.epoch:
		return nil, &Refused{WrongEpoch, fmt.Sprintf("the hop is of epoch %d, the hello of %d", p.hop.Epoch, h.epoch)}
	case p.scheme != h.scheme || p.hop.Type.String() != h.typ:
		return nil, &Refused{WrongType, fmt.Sprintf("the hop carries %s over %s", p.hop.Type, p.scheme)}
	}
	delete(s.pending, h.stream)
	return p, nil
}

// Pending is a hop that waits for its sender.
type Pending struct {
	server *Server
	scheme string
	hop    connectors.Hop
	extra  string
	// open, where it is not nil, gets ready for the peer, who is welcome, and returns what it is told instead of extra.
	open    func(ctx context.Context, peer ca.ID, trunks bool) (extra string, err error)
	arrived chan *Session
	closed  chan struct{}
	once    sync.Once
}

// Expect makes the server wait for the sender of h over the transport with the scheme; extra is what the sender is told
// in the welcome, at most 256 bytes. A zero stream is drawn.
func (s *Server) Expect(scheme string, h connectors.Hop, extra string) (*Pending, error) {
	return s.expect(scheme, h, extra, nil)
}

func (s *Server) expect(scheme string, h connectors.Hop, extra string,
	open func(context.Context, ca.ID, bool) (string, error)) (*Pending, error) {
	if len(extra) > maxExtra {
		return nil, fmt.Errorf("listen for %s: %d bytes of parameters, at most %d are allowed", h.Name, len(extra), maxExtra)
	}
	if h.Stream == (connectors.StreamID{}) {
		s.cfg.World.Fill(h.Stream[:])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.pending[h.Stream]; taken {
		return nil, fmt.Errorf("listen for %s: stream %s is taken", h.Name, h.Stream)
	}
	if len(s.pending) >= s.cfg.MaxPending {
		return nil, fmt.Errorf("listen for %s: %d hops wait for their senders already", h.Name, len(s.pending))
	}
	p := &Pending{server: s, scheme: scheme, hop: h, extra: extra, open: open,
		arrived: make(chan *Session, 1), closed: make(chan struct{})}
	s.pending[h.Stream] = p
	return p, nil
}

// Address is what the sender dials.
func (p *Pending) Address() string {
	return connectors.Address{Scheme: p.scheme, Host: p.server.advertise, Stream: p.hop.Stream}.String()
}

// Accept waits for the sender. The caller must Begin the session.
func (p *Pending) Accept(ctx context.Context) (*Session, error) {
	select {
	case s := <-p.arrived:
		return s, nil
	case <-p.closed:
		return nil, connectors.ErrClosed
	case <-p.server.stop:
		return nil, fmt.Errorf("wait for the sender of %s: %w", p.hop.Name, errStopped)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the sender of %s: %w", p.hop.Name, ctx.Err())
	}
}

// Close gives up waiting.
func (p *Pending) Close() error {
	p.once.Do(func() {
		p.server.mu.Lock()
		if p.server.pending[p.hop.Stream] == p {
			delete(p.server.pending, p.hop.Stream)
		}
		p.server.mu.Unlock()
		close(p.closed)
	})
	return nil
}
