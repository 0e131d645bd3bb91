package tree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

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

	wordsMu sync.Mutex
	words   words
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
	out := &Client{Client: c, cfg: cfg, keys: newKeyring(cfg.Identity, cfg.World), words: make(words)}
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
	answers, err := s.ask(a)
	if err != nil {
		return errLinkLost
	}
	defer answers.done()
	for {
		for {
			m, ended := answers.next()
			if ended {
				return errLinkLost
			}
			if m == nil {
				break
			}
			w.take(a.Query, m)
			if m.last && m.code != 0 {
				return status.Error(codes.Code(m.code), m.problem)
			}
			if m.last {
				return nil
			}
		}
		select {
		case <-answers.ready:
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

// take puts an answer with those before. What cannot be read of it is left out.
func (w *wide) take(query []byte, m *answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range m.hits {
		h, err := parseHit(b)
		if err != nil {
			continue
		}
		f, err := w.VerifyPacked(h.found, len(w.query.Select))
		w.hit(f, err, h.server, h.place)
	}
	w.unseal(query, unpacked[treepb.Sealed](m.sealed))
	w.answer.Outcomes = slices.Grow(w.answer.Outcomes, min(len(m.outcomes), outcomesMost-len(w.answer.Outcomes)))
	for _, b := range m.outcomes {
		o, err := w.outcome(b)
		if err == nil && len(w.answer.Outcomes) < outcomesMost {
			w.answer.Outcomes = append(w.answer.Outcomes, o)
		}
	}
}

// unpacked reads what of it can be read.
func unpacked[T any, M interface {
	*T
	proto.Message
}](packed [][]byte) []M {
	out := make([]M, 0, len(packed))
	for _, b := range packed {
		if m := M(new(T)); proto.Unmarshal(b, m) == nil {
			out = append(out, m)
		}
	}
	return out
}

// hits checks what was found, and keeps it.
func (w *wide) hits(all []*treepb.Hit) {
	for _, h := range all {
		f, err := w.Verify(h.GetFound(), len(w.query.Select))
		w.hit(f, err, h.GetServer(), route.Place{Rank: int(h.GetRank()), Value: h.GetValue(), Text: h.GetText()})
	}
}

// hit keeps one that was checked, err being what was wrong with it.
func (w *wide) hit(f sds.Found, err error, server string, at route.Place) {
	if err != nil {
		if w.cfg.Log != nil {
			w.cfg.Log.Warn("left out of the answer", "server", server, "error", err)
		}
		return
	}
	out := Found{f, ca.ID(server)}
	if w.all.Add(route.Match{ID: f.ID, Version: f.Version, Item: out, Place: at}) && w.options.Each != nil {
		w.options.Each(out)
	}
}

// outcome reads what became of a branch, and notes when something is hidden there. The words of outcomes come with every
// answer: they are made once.
func (w *wide) outcome(b []byte) (route.Outcome, error) {
	w.wordsMu.Lock()
	o, hidden, err := parseOutcome(b, w.words)
	w.wordsMu.Unlock()
	if err != nil || !hidden {
		return o, err
	}
	m := new(treepb.Outcome)
	if err := proto.Unmarshal(b, m); err != nil {
		return o, err
	}
	if len(w.hidden) < presentMost {
		w.hidden = append(w.hidden, m)
	}
	return outcomeFrom(m), nil
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
		if _, err := s.recv(nil); err != nil {
			s.end(err)
			return
		}
		s.end(errors.New("a server sends answers"))
	})
	return s, nil
}
