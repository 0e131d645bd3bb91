package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	out := &Client{Client: c, cfg: cfg, keys: newKeyring(cfg.Identity)}
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
	w := &wide{Client: c, query: q, options: o, question: question, by: make(map[string]int)}
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
	answer   Answer
	by       map[string]int // where a service stands in the answer
}

// once asks on the present stream.
func (w *wide) once(ctx context.Context) error {
	w.answer, w.by = Answer{}, make(map[string]int)
	token, err := w.Capability(ctx)
	if err != nil {
		return err
	}
	a := &treepb.Ask{Question: w.question, Scope: uint32(w.options.Scope), Fanout: uint32(max(0, w.options.Fanout)), Capability: token}
	if w.options.First {
		a.Want = uint32(route.First)
	}
	if err := w.exchange(ctx, a); err != nil {
		return err
	}
	if w.query.OrderBy == "" {
		slices.SortFunc(w.answer.Found, func(a, b Found) int { return cmp.Compare(a.ID, b.ID) })
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
			w.take(m)
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
func (w *wide) take(m *treepb.Answer) {
	for _, h := range m.GetHits() {
		f, err := w.Verify(h.GetFound(), len(w.query.Select))
		if err != nil {
			w.warn(h, err)
			continue
		}
		w.add(Found{f, ca.ID(h.GetServer())})
	}
	for _, o := range m.GetOutcomes() {
		if len(w.answer.Outcomes) < outcomesMost {
			w.answer.Outcomes = append(w.answer.Outcomes, outcomeFrom(o))
		}
	}
}

func (w *wide) warn(h *treepb.Hit, err error) {
	if w.cfg.Log != nil {
		w.cfg.Log.Warn("left out of the answer", "server", h.GetServer(), "owner", h.GetFound().GetOwner(), "name", h.GetFound().GetName(), "error", err)
	}
}

// add puts a service into the answer, or a newer version in the place of an older one.
func (w *wide) add(f Found) {
	if i, known := w.by[f.ID]; known {
		if w.answer.Found[i].Version < f.Version {
			w.answer.Found[i] = f
		}
		return
	}
	w.by[f.ID] = len(w.answer.Found)
	w.answer.Found = append(w.answer.Found, f)
	if w.options.Each != nil {
		w.options.Each(f)
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
	s := newStream(c.life, ca.Peer{}, raw, 1)
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
