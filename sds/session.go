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
	"ninja/sds/sdspb"
)

// Bounds of a session.
const (
	sessionQueries  = 32 // at a time; more wait unread
	sessionCompiled = 64 // questions kept compiled
	queryTimeout    = 10 * time.Second
)

// session is one client's stream.
type session struct {
	*Server
	who  ca.ID
	ctx  context.Context
	out  chan *sdspb.SessionResponse
	slot chan struct{}

	holder   holder
	compiled map[string]*question

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
		Server: s, who: peer.ID, ctx: ctx, holder: holder{peer: peer}, compiled: make(map[string]*question), running: make(map[uint64]context.CancelFunc),
		out: make(chan *sdspb.SessionResponse, 2*sessionQueries), slot: make(chan struct{}, sessionQueries),
	}
	var sender, queries sync.WaitGroup
	sender.Go(func() {
		for m := range c.out {
			if ctx.Err() == nil && stream.Send(m) != nil {
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
		if err != nil {
			return err
		}
		switch r := m.GetRequest().(type) {
		case *sdspb.SessionRequest_Hello:
			c.holder = holder{peer: c.holder.peer, token: r.Hello.GetCapability()}
			if _, _, err := c.rights(&c.holder); err != nil {
				c.send(c.ctx, &sdspb.SessionResponse{Code: uint32(codes.PermissionDenied), Error: err.Error()})
			}
		case *sdspb.SessionRequest_Cancel:
			c.cancel(r.Cancel)
		case *sdspb.SessionRequest_Ping:
			c.send(c.ctx, &sdspb.SessionResponse{Id: r.Ping, Last: true})
		case *sdspb.SessionRequest_Ask:
			if err := c.ask(r.Ask, queries); err != nil {
				return err
			}
		default:
			return status.Error(codes.InvalidArgument, "a request that is none of hello, ask, cancel and ping")
		}
	}
}

// ask begins to answer a question.
func (c *session) ask(a *sdspb.Ask, queries *sync.WaitGroup) error {
	select {
	case c.slot <- struct{}{}:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	timeout := queryTimeout
	if t := time.Duration(a.GetTimeoutMs()) * time.Millisecond; t > 0 {
		timeout = min(timeout, t)
	}
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	c.mu.Lock()
	_, twice := c.running[a.GetId()]
	if !twice {
		c.running[a.GetId()] = cancel
	}
	c.mu.Unlock()
	if twice || a.GetId() == 0 {
		cancel()
		return status.Errorf(codes.InvalidArgument, "question %d is in use or 0: choose another id", a.GetId())
	}
	who := &c.holder
	if len(a.GetCapability()) > 0 {
		who = &holder{peer: c.holder.peer, token: a.GetCapability()}
	}
	r, _, _ := c.rights(who)
	q, err := c.compile(a.GetQuestion())
	queries.Go(func() {
		defer func() {
			cancel()
			c.mu.Lock()
			delete(c.running, a.GetId())
			c.mu.Unlock()
			<-c.slot
		}()
		if err == nil {
			err = c.guarded(func() error { return c.answer(ctx, a.GetId(), r, q) })
		}
		if err != nil {
			st := status.Convert(err)
			c.send(c.ctx, &sdspb.SessionResponse{Id: a.GetId(), Last: true, Code: uint32(st.Code()), Error: st.Message()})
		}
	})
	return nil
}

// guarded turns a panic over a question into its failure: it must not end everybody else's session too.
func (c *session) guarded(answer func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Log.Error("a question was not answered: please report this", "by", c.who, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "this question was not answered because of a mistake in the server; its log has more")
		}
	}()
	return answer()
}

// compile compiles a question, or finds it among those of the session.
func (c *session) compile(q *sdspb.Question) (*question, error) {
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(q)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if known := c.compiled[string(key)]; known != nil {
		return known, nil
	}
	compiled, err := c.Server.compile(c.who, q)
	if err != nil {
		return nil, err
	}
	if len(c.compiled) >= sessionCompiled {
		clear(c.compiled)
	}
	c.compiled[string(key)] = compiled
	return compiled, nil
}

// answer searches and sends what was found, in as many messages as it takes.
func (c *session) answer(ctx context.Context, id uint64, r rights, q *question) error {
	c.store.stats.queries.Add(1)
	res, err := c.search(ctx, c.who, r, q)
	if err != nil {
		return err
	}
	m := &sdspb.SessionResponse{Id: id}
	size, now := 0, time.Now()
	for _, h := range res.hits {
		f := q.message(h.record, now)
		if size += messageSize(f); size > maxAnswer && len(m.Found) > 0 {
			if !c.send(ctx, m) {
				return status.FromContextError(ctx.Err()).Err()
			}
			m, size = &sdspb.SessionResponse{Id: id}, messageSize(f)
		}
		m.Found = append(m.Found, f)
	}
	m.Last, m.Count, m.More, m.Explain = true, uint64(res.count), res.more(q), res.explain
	if m.More && len(res.hits) > 0 {
		m.Cursor = c.cursors.seal(q.subject, &res.hits[len(res.hits)-1])
	}
	c.send(ctx, m)
	return nil
}

// send hands a message to the sender, unless ctx ends first.
func (c *session) send(ctx context.Context, m *sdspb.SessionResponse) bool {
	select {
	case c.out <- m:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *session) cancel(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.running[id]; cancel != nil {
		cancel()
	}
}
