package tree

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// Client asks beyond one server: it is an sds.Client whose queries have a scope. It is safe for use by many goroutines,
// which share one stream.
type Client struct {
	*sds.Client
	cfg  sds.ClientConfig
	life context.Context
	end  context.CancelFunc
	all  sync.WaitGroup

	mu      sync.Mutex
	present *stream
	keys    *keyring
}

// Options say how far a query goes.
type Options struct {
	Scope route.Scope
	// First asks for as many as Query.Limit says, whichever are found first, and spares the other branches. Without it
	// everything that matches is wanted, up to the limit, and the best of all when the query has an order.
	First bool
	// Fanout is the most branches that a server asks; 0 is route.FanoutMost.
	Fanout int
	// Each is called with what is found as it comes, from one goroutine; nil is nobody.
	Each func(Found)
}

// Found is what was found, and at which server.
type Found struct {
	sds.Found
	Server ca.ID
}

// Answer is what came of a query.
type Answer struct {
	Found []Found
	// Outcomes say which branches were searched, ruled out, out of reach, late or spared, and how old each was.
	Outcomes []route.Outcome
	Took     time.Duration
}

// Complete reports whether nothing can be missing but for the age of summaries.
func (a *Answer) Complete() bool { return route.Complete(a.Outcomes) }

// Dial makes a client.
func Dial(cfg sds.ClientConfig) (*Client, error) {
	c, err := sds.Dial(cfg)
	if err != nil {
		return nil, err
	}
	out := &Client{Client: c, cfg: cfg, keys: newKeyring(cfg.Identity, cfg.World)}
	out.life, out.end = context.WithCancel(context.Background())
	return out, nil
}

// Close ends the session and waits for its goroutines.
func (c *Client) Close() error {
	c.end()
	err := c.Client.Close()
	c.all.Wait()
	return err
}

// Bounds of a client.
const (
	outcomesMost = 10_000
	askTime      = 15 * time.Second // of a query whose context has no deadline
)

// Ask asks as far as the options say. A query that some branches did not answer is no error: see Answer.Complete.
func (c *Client) Ask(ctx context.Context, q sds.Query, o Options) (*Answer, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askTime)
		defer cancel()
	}
	question, err := q.Marshal()
	if err != nil {
		return nil, err
	}
	w := &wide{Client: c, query: q, options: o, question: question}
	begun := time.Now()
	wait := backoffLeast
	for {
		err = w.once(ctx)
		if err == nil || ctx.Err() != nil || status.Code(err) != codes.Unavailable && !errors.Is(err, errLinkLost) {
			break
		}
		if world.Sleep(ctx, c.cfg.World.Jitter(wait)) != nil || c.life.Err() != nil {
			break
		}
		wait = min(2*wait, backoffMost)
	}
	if err != nil {
		return nil, fmt.Errorf("query of scope %v at the SDS server %s: %w", o.Scope, c.cfg.Address, err)
	}
	w.answer.Took = time.Since(begun)
	return &w.answer, nil
}

// wide is one query under way.
type wide struct {
	*Client
	query    sds.Query
	options  Options
	question []byte

	mu     sync.Mutex
	answer Answer
	all    *route.Gather
	hidden []*treepb.Outcome // of servers that have something for the capability, once it is presented
}

// once asks on the present stream.
func (w *wide) once(ctx context.Context) error {
	want := route.Every
	switch {
	case w.query.OrderBy != "":
		want = route.Best
	case w.options.First:
		want = route.First
	}
	limit := w.query.Limit
	if limit <= 0 || limit > sds.MaxResults {
		limit = sds.MaxResults
	}
	w.answer, w.hidden, w.all = Answer{}, nil, route.NewGather(want, limit, w.query.Descending)
	token, err := w.Capability(ctx)
	if err != nil {
		return err
	}
	a := &treepb.Ask{Question: w.question, Scope: uint32(w.options.Scope), Fanout: uint32(max(0, w.options.Fanout)), Capability: token, Want: uint32(want)}
	if err := w.exchange(ctx, a); err != nil {
		return err
	}
	if len(w.hidden) > 0 {
		w.reveal(ctx, token)
	}
	for _, m := range w.all.Result() {
		w.answer.Found = append(w.answer.Found, m.Item.(Found))
	}
	return nil
}

// exchange sends a question and takes all its answers.
func (w *wide) exchange(ctx context.Context, a *treepb.Ask) error {
	s, err := w.stream(ctx)
	if err != nil {
		return err
	}
	a.Query = make([]byte, 16)
	w.cfg.World.Fill(a.Query)
	if a.Proof == nil && len(a.Capability) > 0 {
		a.Proof = w.keys.handles(a.Capability, a.Query, a.Question)
	}
	if end, ok := ctx.Deadline(); ok {
		a.TimeoutMs = uint32(max(1, time.Until(end).Milliseconds()))
	}
	answers, done, err := s.ask(ctx, a)
	if err != nil {
		return errLinkLost
	}
	defer done()
	for {
		select {
		case m, ok := <-answers:
			if !ok {
				return errLinkLost
			}
			w.take(a.Query, m)
			if m.GetLast() && m.GetCode() != 0 {
				return status.Error(codes.Code(m.GetCode()), m.GetError())
			}
			if m.GetLast() {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return broken(s)
		}
	}
}

// broken is why a stream has ended, as an error that says whether to ask again.
func broken(s *stream) error {
	why := context.Cause(s.ctx)
	if code := status.Code(why); code == codes.Unimplemented || code == codes.PermissionDenied {
		return why
	}
	return errLinkLost
}

// take puts an answer with those before.
func (w *wide) take(query []byte, m *treepb.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits(m.GetHits())
	w.unseal(query, m.GetSealed())
	for _, o := range m.GetOutcomes() {
		if o.GetHidden() != nil && len(w.hidden) < presentMost {
			w.hidden = append(w.hidden, o)
		}
		if len(w.answer.Outcomes) < outcomesMost {
			w.answer.Outcomes = append(w.answer.Outcomes, outcomeFrom(o))
		}
	}
}

// hits checks what was found, and keeps it.
func (w *wide) hits(all []*treepb.Hit) {
	for _, h := range all {
		f, err := w.Verify(h.GetFound(), len(w.query.Select))
		if err != nil {
			w.warn(h, err)
			continue
		}
		out := Found{f, ca.ID(h.GetServer())}
		fresh := w.all.Add(route.Match{
			ID: f.ID, Version: f.Version, Item: out,
			Place: route.Place{Rank: int(h.GetRank()), Value: h.GetValue(), Text: h.GetText()},
		})
		if fresh && w.options.Each != nil {
			w.options.Each(out)
		}
	}
}

func (w *wide) warn(h *treepb.Hit, err error) {
	if w.cfg.Log != nil {
		w.cfg.Log.Warn("left out of the answer", "server", h.GetServer(), "owner", h.GetFound().GetOwner(), "name", h.GetFound().GetName(), "error", err)
	}
}

// stream is the one in use, opened when there is none.
func (c *Client) stream(ctx context.Context) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		return nil, errors.New("the client is closed")
	}
	if c.present != nil && c.present.ctx.Err() == nil {
		return c.present, nil
	}
	raw, err := treepb.NewTreeClient(c.Conn()).Session(c.life)
	if err != nil {
		return nil, err
	}
	s := newStream(c.life, ca.Peer{}, raw, 1) // servers do not ask clients
	c.present = s
	c.all.Go(s.sending)
	c.all.Go(func() {
		for {
			f, err := s.recv()
			if err != nil {
				s.end(err)
				return
			}
			if a := f.GetAnswer(); a != nil {
				s.take(a)
			}
		}
	})
	return s, nil
}
