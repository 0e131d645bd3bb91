package sds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/sds/index"
	"ninja/sds/sdspb"
)

// Bounds of a session.
const (
	sessionQueries = 32   // long ones at a time; more wait unread
	sessionAsks    = 256  // in one message
	quickFuel      = 4000 // of a question that is answered before the next is read: some 60 us
	queryTimeout   = 10 * time.Second
)

// session is one client's stream. Its reader answers at once what takes little work; what turns out to take more gets a
// goroutine of its own.
type session struct {
	*Server
	who       ca.ID
	ctx       context.Context
	out       chan []reply
	slot      chan struct{}
	allowance *allowance

	holder  holder
	granted rights // the holder's, when a message came last
	asked   memory

	mu      sync.Mutex
	running map[uint64]context.CancelFunc
}

// Session answers a client's questions. Reading, answering and sending are apart, so that answers come in any order.
func (s *Server) Session(stream grpc.BidiStreamingServer[sdspb.SessionRequest, sdspb.SessionResponse]) error {
	peer, err := caller(stream.Context())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	c := &session{
		Server: s, who: peer.ID, ctx: ctx, holder: holder{peer: peer}, granted: public, running: make(map[uint64]context.CancelFunc),
		out: make(chan []reply, sessionQueries), slot: make(chan struct{}, sessionQueries), allowance: s.meter.hold(peer.ID),
	}
	defer s.meter.release(c.allowance)
	var sender, queries sync.WaitGroup
	sender.Go(func() {
		w := &speaker{stream: stream, cursors: s.cursors}
		for replies := range c.out {
			if ctx.Err() == nil && w.send(replies, c.out) != nil {
				cancel() // and drain what is left
			}
		}
	})
	err = c.read(stream, &queries)
	if err != nil {
		cancel()
	}
	queries.Wait()
	close(c.out)
	sender.Wait()
	return err
}

// read takes requests until the client has no more or is gone.
func (c *session) read(stream grpc.BidiStreamingServer[sdspb.SessionRequest, sdspb.SessionResponse], queries *sync.WaitGroup) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = c.take(m, queries)
		}
		if err != nil {
			return err
		}
	}
}

// take serves one message.
func (c *session) take(m *sdspb.SessionRequest, queries *sync.WaitGroup) error {
	switch r := m.GetRequest().(type) {
	case *sdspb.SessionRequest_Hello:
		c.hello(r.Hello)
	case *sdspb.SessionRequest_Cancel:
		c.cancel(r.Cancel)
	case *sdspb.SessionRequest_Ping:
		c.send(c.ctx, reply{id: r.Ping})
	case *sdspb.SessionRequest_Ask:
		question, err := proto.Marshal(r.Ask.GetQuestion())
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		a := packedAsk{id: r.Ask.GetId(), question: question, capability: r.Ask.GetCapability(), timeout: uint64(r.Ask.GetTimeoutMs())}
		return c.answer([]packedAsk{a}, queries)
	default:
		if len(m.GetAsks()) == 0 {
			return status.Error(codes.InvalidArgument, "a request that is none of hello, ask, cancel and ping")
		}
		if len(m.GetAsks()) > sessionAsks {
			return status.Errorf(codes.InvalidArgument, "%d questions in one message, at most %d: send more messages", len(m.GetAsks()), sessionAsks)
		}
		asks := make([]packedAsk, len(m.GetAsks()))
		for i, b := range m.GetAsks() {
			var err error
			if asks[i], err = parseAsk(b); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
		}
		return c.answer(asks, queries)
	}
	return nil
}

// hello takes the client's capability, and says what the server understands to whom understands that.
func (c *session) hello(h *sdspb.Hello) {
	c.holder = holder{peer: c.holder.peer, token: h.GetCapability()}
	if h.GetSpeaks() >= wireVersion {
		c.send(c.ctx, reply{speaks: wireVersion, keep: int(min(h.GetKeep(), keepMost))})
	}
	if _, _, err := c.rights(&c.holder); err != nil {
		c.send(c.ctx, reply{err: status.Error(codes.PermissionDenied, err.Error())})
	}
}

// answer answers questions that came in one message, or begins to.
func (c *session) answer(asks []packedAsk, queries *sync.WaitGroup) error {
	own, _, _ := c.rights(&c.holder)
	if !own.equal(c.granted) {
		c.granted = own
		c.asked.forget()
	}
	replies := make([]reply, 0, len(asks))
	var long []packedAsk
	var questions []*question
	for _, a := range asks {
		if a.id == 0 {
			return status.Error(codes.InvalidArgument, "question 0: choose another id")
		}
		if done, r, err := c.quick(a); done {
			replies = append(replies, reply{id: a.id, answered: r, err: err})
		} else {
			long, questions = append(long, a), append(questions, r.question)
		}
	}
	c.send(c.ctx, replies...)
	for i, a := range long { // last, because they may have to wait for one another
		if err := c.slow(a, questions[i], queries); err != nil {
			return err
		}
	}
	return nil
}

// quick answers a question that takes little work. What it returns when it did not is compiled.
func (c *session) quick(a packedAsk) (done bool, out answered, err error) {
	m, err := c.asked.question(a.question, func(q *sdspb.Question) (*question, error) { return c.compile(c.who, q) })
	if err != nil {
		return true, answered{}, err
	}
	out.question = m.question
	r, own := c.granted, len(a.capability) == 0
	if !own {
		r, _, _ = c.rights(&holder{peer: c.holder.peer, token: a.capability})
	} else if out.result = c.remembered(m); out.result != nil {
		c.store.stats.queries.Add(1)
		return true, out, nil
	}
	if c.meter.charge(c.allowance, 0) > 0 {
		return false, out, nil // in debt: to wait
	}
	res, used, err := c.look(c.ctx, r, m.question, quickFuel)
	c.meter.charge(c.allowance, used)
	if err != nil {
		return false, out, nil
	}
	c.store.stats.queries.Add(1)
	if out.result = res; own {
		m.remember(res)
	}
	return true, out, nil
}

// slow answers a question in a goroutine of its own.
func (c *session) slow(a packedAsk, q *question, queries *sync.WaitGroup) error {
	select {
	case c.slot <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	timeout := queryTimeout
	if t := time.Duration(a.timeout) * time.Millisecond; t > 0 {
		timeout = min(timeout, t)
	}
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	c.mu.Lock()
	_, twice := c.running[a.id]
	if !twice {
		c.running[a.id] = cancel
	}
	c.mu.Unlock()
	if twice {
		cancel()
		return status.Errorf(codes.InvalidArgument, "question %d is in use: choose another id", a.id)
	}
	r := c.granted
	if len(a.capability) > 0 {
		r, _, _ = c.rights(&holder{peer: c.holder.peer, token: a.capability})
	}
	queries.Go(func() {
		defer func() {
			cancel()
			c.mu.Lock()
			delete(c.running, a.id)
			c.mu.Unlock()
			<-c.slot
		}()
		c.store.stats.queries.Add(1)
		res, err := c.guarded(func() (*result, error) { return c.search(ctx, c.who, r, q) })
		c.send(c.ctx, reply{id: a.id, answered: answered{q, res}, err: err})
	})
	return nil
}

// guarded turns a panic over a question into its failure: it must not end everybody else's session too.
func (c *session) guarded(answer func() (*result, error)) (res *result, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Log.Error("a question was not answered: please report this", "by", c.who, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "this question was not answered because of a mistake in the server; its log has more")
		}
	}()
	return answer()
}

// remembered is what was answered to the question before, when it would be answered again: rights, freshness of the
// ACLs and every class that it opens are what they were.
func (c *session) remembered(m *asked) *result {
	if m.result == nil {
		return nil
	}
	was := &m.result.sources
	if owner, some := c.publisher(c.granted, m.question.by); owner != was.owner || some != was.some {
		return nil
	}
	if !was.some {
		return m.result
	}
	n, same := 0, true
	c.store.look(c.granted.grants, func(x *index.Class) bool {
		same = n < len(was.stamps) && was.stamps[n] == x.Stamp
		n++
		return same
	})
	if !same || n != len(was.stamps) {
		return nil
	}
	return m.result
}

// send hands replies to the sender, unless ctx ends first.
func (c *session) send(ctx context.Context, replies ...reply) {
	if len(replies) == 0 {
		return
	}
	select {
	case c.out <- replies:
	case <-ctx.Done():
	}
}

func (c *session) cancel(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.running[id]; cancel != nil {
		cancel()
	}
}
