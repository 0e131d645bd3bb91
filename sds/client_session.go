package sds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/sds/sdspb"
)

// errBroken is wrapped by the failures of a session, after which the question can be asked on another.
var errBroken = errors.New("the session broke")

// answer is the whole answer to a question.
type answer struct {
	found   []*sdspb.Found
	count   uint64
	explain *sdspb.Explanation
	more    bool
	cursor  []byte
	err     error
}

// clientSession is one stream to the server. Asking goroutines hand requests to its sender; its receiver hands out the
// answers.
type clientSession struct {
	requests chan *sdspb.SessionRequest
	broken   chan struct{} // closed when the session is over
	cancel   context.CancelFunc

	mu      sync.Mutex
	hello   []byte // the capability that the server was told last
	told    bool
	last    uint64
	pending map[uint64]*pending
	err     error
}

type pending struct {
	answer
	done chan struct{}
}

// present is the session in use, opened when there is none.
func (c *Client) present() (*clientSession, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		return nil, errors.New("the client is closed")
	}
	if c.session != nil {
		select {
		case <-c.session.broken:
		default:
			return c.session, nil
		}
	}
	ctx, cancel := context.WithCancel(c.life)
	s := &clientSession{
		requests: make(chan *sdspb.SessionRequest, 2*sessionQueries), broken: make(chan struct{}), cancel: cancel, pending: make(map[uint64]*pending),
	}
	c.session = s
	c.all.Go(func() { s.run(ctx, c) })
	return s, nil
}

// run opens the stream and serves it until it breaks.
func (s *clientSession) run(ctx context.Context, c *Client) {
	defer s.cancel()
	stream, err := c.rpc.Session(ctx)
	if err != nil {
		s.fail(err)
		return
	}
	c.all.Go(func() {
		for {
			select {
			case m := <-s.requests:
				if stream.Send(m) != nil {
					return // the receiver learns why
				}
			case <-ctx.Done():
				return
			}
		}
	})
	s.fail(s.receive(stream, c))
}

func (s *clientSession) receive(stream grpc.BidiStreamingClient[sdspb.SessionRequest, sdspb.SessionResponse], c *Client) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetId() == 0 {
			c.cfg.Log.Warn("sds session", "server", c.cfg.Address, "problem", m.GetError())
			continue
		}
		s.mu.Lock()
		p := s.pending[m.GetId()]
		if p != nil {
			p.found, p.count, p.explain = append(p.found, m.GetFound()...), m.GetCount(), m.GetExplain()
			p.more, p.cursor = m.GetMore(), m.GetCursor()
			if m.GetLast() {
				if m.GetCode() != 0 {
					p.err = status.Error(codes.Code(m.GetCode()), m.GetError())
				}
				delete(s.pending, m.GetId())
				close(p.done)
			}
		}
		s.mu.Unlock()
	}
}

// fail ends the session: whoever waits learns of it.
func (s *clientSession) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = fmt.Errorf("%w: %w", errBroken, err)
	close(s.broken)
}

func (s *clientSession) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ask sends a question, after the capability if that is a new one, and waits for its answer.
func (s *clientSession) ask(ctx context.Context, own, capability []byte, q *sdspb.Question) (*answer, error) {
	ask := &sdspb.Ask{Question: q, Capability: capability}
	if deadline, ok := ctx.Deadline(); ok {
		ask.TimeoutMs = uint32(max(1, time.Until(deadline).Milliseconds()))
	}
	s.mu.Lock()
	var hello *sdspb.SessionRequest
	if !s.told || !bytes.Equal(s.hello, own) {
		hello = &sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Hello{Hello: &sdspb.Hello{Capability: own}}}
	}
	var p *pending
	ask.Id, p = s.expect()
	s.mu.Unlock()
	defer s.forget(ask.Id)
	if hello != nil && len(own) > 0 {
		if err := s.send(ctx, hello); err != nil {
			return nil, err
		}
	}
	if hello != nil { // told only now: who asks meanwhile tells it once more, which does no harm
		s.mu.Lock()
		s.told, s.hello = true, own
		s.mu.Unlock()
	}
	if err := s.send(ctx, &sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Ask{Ask: ask}}); err != nil {
		return nil, err
	}
	select {
	case <-p.done:
		return &p.answer, p.err
	case <-s.broken:
		return nil, s.failure()
	case <-ctx.Done():
		select {
		case s.requests <- &sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Cancel{Cancel: ask.Id}}:
		default: // too busy to say so; the server's own deadline ends it
		}
		return nil, ctx.Err()
	}
}

// expect makes an id whose answer is waited for. The caller holds mu.
func (s *clientSession) expect() (id uint64, p *pending) {
	s.last++
	p = &pending{done: make(chan struct{})}
	s.pending[s.last] = p
	return s.last, p
}

// ping waits for the answer to an empty message.
func (s *clientSession) ping(ctx context.Context) error {
	s.mu.Lock()
	id, p := s.expect()
	s.mu.Unlock()
	defer s.forget(id)
	if err := s.send(ctx, &sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Ping{Ping: id}}); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-s.broken:
		return s.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *clientSession) send(ctx context.Context, m *sdspb.SessionRequest) error {
	select {
	case s.requests <- m:
		return nil
	case <-s.broken:
		return s.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *clientSession) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, id)
}
