package sds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/sds/sdspb"
)

// errBroken is wrapped by the failures of a session, after which the question can be asked on another.
var errBroken = errors.New("the session broke")

// answer is the whole answer to a question.
type answer struct {
	found   []item
	count   uint64
	explain *sdspb.Explanation
	more    bool
	cursor  []byte
	err     error
}

// clientSession is one stream to the server. Asking goroutines hand requests to its sender, which sends all that wait as
// one message; its receiver hands out the answers.
type clientSession struct {
	requests chan outgoing
	broken   chan struct{} // closed when the session is over
	cancel   context.CancelFunc
	gathers  atomic.Bool // the server understands SessionRequest.asks
	keep     uint32
	kept     kept // the receiver's

	mu      sync.Mutex
	hello   []byte // the capability that the server was told last
	told    bool
	last    uint64
	pending map[uint64]*pending
	err     error
}

// outgoing is one request: a packed Ask, or something else.
type outgoing struct {
	ask   []byte
	other *sdspb.SessionRequest
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
		requests: make(chan outgoing, sessionAsks), broken: make(chan struct{}), cancel: cancel, pending: make(map[uint64]*pending), keep: c.keep,
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
			case r := <-s.requests:
				if s.transmit(stream, r) != nil {
					return // the receiver learns why
				}
			case <-ctx.Done():
				return
			}
		}
	})
	s.fail(s.receive(stream, c))
}

// transmit sends a request and those that wait behind it.
func (s *clientSession) transmit(stream grpc.BidiStreamingClient[sdspb.SessionRequest, sdspb.SessionResponse], r outgoing) error {
	if len(s.requests) == 0 {
		runtime.Gosched() // whoever can ask now does so first
	}
	m, size := &sdspb.SessionRequest{Version: 1}, 0
	for {
		switch {
		case r.other != nil:
			if err := flushAsks(stream, m); err != nil {
				return err
			}
			if err := stream.Send(r.other); err != nil {
				return err
			}
			m, size = &sdspb.SessionRequest{Version: 1}, 0
		case s.gathers.Load():
			m.Asks = append(m.Asks, r.ask)
			size += len(r.ask)
		default:
			a := new(sdspb.Ask)
			if err := proto.Unmarshal(r.ask, a); err != nil {
				return err
			}
			if err := stream.Send(&sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Ask{Ask: a}}); err != nil {
				return err
			}
		}
		if len(m.Asks) == sessionAsks || size > maxAnswer {
			return flushAsks(stream, m)
		}
		select {
		case r = <-s.requests:
		default:
			return flushAsks(stream, m)
		}
	}
}

func flushAsks(stream grpc.BidiStreamingClient[sdspb.SessionRequest, sdspb.SessionResponse], m *sdspb.SessionRequest) error {
	if len(m.Asks) == 0 {
		return nil
	}
	return stream.Send(m)
}

func (s *clientSession) receive(stream grpc.BidiStreamingClient[sdspb.SessionRequest, sdspb.SessionResponse], c *Client) error {
	var a packedAnswer
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, b := range m.GetAnswers() {
			if err = a.parse(b); err == nil {
				err = s.take(&a)
			}
			if err != nil {
				return err
			}
			if a.id == 0 {
				c.cfg.Log.Warn("sds session", "server", c.cfg.Address, "problem", a.problem)
			}
		}
		switch {
		case len(m.GetAnswers()) > 0:
		case m.GetSpeaks() > 0:
			s.gathers.Store(true)
		case m.GetId() == 0:
			c.cfg.Log.Warn("sds session", "server", c.cfg.Address, "problem", m.GetError())
		default:
			b, err := proto.Marshal(m) // from an older server, or before the hello was answered
			if err == nil {
				err = a.parse(b)
			}
			if err == nil {
				err = s.take(&a)
			}
			if err != nil {
				return err
			}
		}
	}
}

// take hands an answer, or a piece of one, to who waits for it. What it brings is kept even when nobody does.
func (s *clientSession) take(a *packedAnswer) error {
	var explain *sdspb.Explanation
	if len(a.explain) > 0 {
		explain = new(sdspb.Explanation)
		if err := proto.Unmarshal(a.explain, explain); err != nil {
			return err
		}
	}
	items := make([]item, 0, len(a.found))
	for _, b := range a.found {
		f, err := parseFound(b)
		if err != nil {
			return err
		}
		it, err := s.kept.item(f, s.keep)
		if err != nil {
			return err
		}
		items = append(items, it)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending[a.id]
	if p == nil {
		return nil
	}
	if p.found == nil {
		p.found = items
	} else {
		p.found = append(p.found, items...)
	}
	p.count, p.explain, p.more, p.cursor = a.count, explain, a.more, bytes.Clone(a.cursor)
	if a.last {
		if a.code != 0 {
			p.err = status.Error(codes.Code(a.code), a.problem)
		}
		delete(s.pending, a.id)
		close(p.done)
	}
	return nil
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
func (s *clientSession) ask(ctx context.Context, own, capability, question []byte) (*answer, error) {
	a := packedAsk{question: question, capability: capability}
	if deadline, ok := ctx.Deadline(); ok {
		a.timeout = uint64(max(1, time.Until(deadline).Milliseconds()))
	}
	s.mu.Lock()
	hello := !s.told || !bytes.Equal(s.hello, own)
	var p *pending
	a.id, p = s.expect()
	s.mu.Unlock()
	if hello {
		if err := s.introduce(ctx, own); err != nil {
			s.forget(a.id)
			return nil, err
		}
	}
	packed := appendAsk(make([]byte, 0, len(question)+len(capability)+32), a)
	if err := s.send(ctx, outgoing{ask: packed}); err != nil {
		s.forget(a.id)
		return nil, err
	}
	select {
	case <-p.done:
		return &p.answer, p.err
	case <-s.broken:
		return nil, s.failure()
	case <-ctx.Done():
		s.forget(a.id)
		select {
		case s.requests <- outgoing{other: &sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Cancel{Cancel: a.id}}}:
		default: // too busy to say so; the server's own deadline ends it
		}
		return nil, ctx.Err()
	}
}

// introduce tells the server the capability. Who asks meanwhile tells it once more, which does no harm.
func (s *clientSession) introduce(ctx context.Context, own []byte) error {
	hello := &sdspb.Hello{Capability: own, Speaks: wireVersion, Keep: s.keep}
	if err := s.send(ctx, outgoing{other: &sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Hello{Hello: hello}}}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told, s.hello = true, own
	return nil
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
	if err := s.send(ctx, outgoing{other: &sdspb.SessionRequest{Version: 1, Request: &sdspb.SessionRequest_Ping{Ping: id}}}); err != nil {
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

func (s *clientSession) send(ctx context.Context, r outgoing) error {
	select {
	case s.requests <- r:
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
