package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"ninja/connectors"
	"ninja/operators"
)

// Register adds the programs that stand at the ends of paths in place of an address outside the system:
// operators.ExternalIn hears it and operators.ExternalOut speaks to it. Both ends of one path at one address share a
// session, so that a telephone, which wants to be spoken to from where it is heard, works.
func Register(r *operators.Registry, e *Edge) {
	s := &shared{edge: e, open: make(map[string]*lent)}
	r.Add(operators.ExternalIn, func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
			return s.hear(ctx, env, out)
		}), e.check(call(env, env.Out))
	})
	r.Add(operators.ExternalOut, func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
			return s.speak(ctx, env, in)
		}), e.check(call(env, env.In))
	})
}

func call(env operators.Env, t connectors.Type) Call {
	return Call{Remote: "rtp://" + env.Args[operators.ExternalAddress], Type: t}
}

// shared holds the sessions of paths.
type shared struct {
	edge *Edge

	mu   sync.Mutex
	open map[string]*lent
}

// lent is a session and which of its halves are in use.
type lent struct {
	session *Session
	typ     connectors.Type
	halves  map[bool]bool
}

// half is what an operator has borrowed.
type half struct {
	in    bool
	owner *shared
	key   string
	lent  *lent
}

// borrow opens the session of a path at an address, or takes its other half.
func (s *shared) borrow(ctx context.Context, env operators.Env, c Call, in bool) (*half, error) {
	h := &half{in: in, owner: s, key: env.Path + " " + c.Remote}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.open[h.key]
	if l == nil {
		session, err := s.edge.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		l = &lent{session: session, typ: c.Type, halves: make(map[bool]bool)}
		s.open[h.key] = l
	}
	if l.halves[in] || l.typ != c.Type {
		return nil, fmt.Errorf("%s is an end of this path already, with %s", c.Remote, l.typ)
	}
	l.halves[in], h.lent = true, l
	return h, nil
}

// giveBack returns a half; with the last the session ends.
func (h *half) giveBack() {
	h.owner.mu.Lock()
	defer h.owner.mu.Unlock()
	delete(h.lent.halves, h.in)
	if len(h.lent.halves) == 0 {
		delete(h.owner.open, h.key)
		h.lent.session.Close()
	}
}

// tell says where the program sends to, and how it can consent.
func (h *half) tell(env operators.Env) {
	s := h.lent.session
	if env.Note == nil {
		return
	}
	text := "rtp://" + s.Addr().String() + " " + s.call.Type.String()
	if s.consent.rule.CNAME == "*" {
		text += " cname=" + s.Token()
	}
	env.Note("receives-at", text)
}

// hear passes on what the program says, until it ends.
func (s *shared) hear(ctx context.Context, env operators.Env, out connectors.Writer) error {
	h, err := s.borrow(ctx, env, call(env, env.Out), true)
	if err != nil {
		return err
	}
	defer h.giveBack()
	h.tell(env)
	return pass(ctx, h.lent.session.Reader(), out)
}

// speak passes on to the program what comes, until it ends.
func (s *shared) speak(ctx context.Context, env operators.Env, in connectors.Reader) error {
	h, err := s.borrow(ctx, env, call(env, env.In), false)
	if err != nil {
		return err
	}
	defer h.giveBack()
	h.tell(env)
	out := h.lent.session.Writer()
	defer out.Close()
	return pass(ctx, in, out)
}

func pass(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
	for {
		a, err := in.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a.Seq = 0
		if err := out.Write(ctx, a); err != nil {
			return err
		}
	}
}
