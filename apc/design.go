package apc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/capability"
	"ninja/operators"
)

// planTime bounds the search; what has been found by then is taken if there is anything.
const planTime = 5 * time.Second

// sketch is a request that was checked and planned, or refused.
type sketch struct {
	form    *plan.Form
	request plan.Request
	claims  capability.Claims
	live    *live
	// catalogue is what was planned with; nil when a word of the request already had no meaning.
	catalogue *plan.Catalogue
	best      *plan.Plan
	print     *blueprint // of best, when it was drawn
	search    time.Duration
}

// plan turns a request into a path that has not been made yet.
func (c *Creator) plan(ctx context.Context, asker ca.Peer, r Request) (*path, *sketch, error) {
	begun := c.cfg.World.Now()
	ctx, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	s, err := c.sketch(ctx, asker, r)
	if err != nil {
		return nil, nil, err
	}
	b, err := s.draw()
	if err != nil {
		return nil, nil, err
	}
	p := &path{
		log: c.cfg.Log, now: c.cfg.World.Now, asker: asker, request: r, position: r.Position, learn: c.learned,
		renewals: make(chan renewal), token: r.Capability,
	}
	if p.position == nil {
		p.position = s.position()
	}
	b.proof = fmt.Sprintf("%d operators and %d nodes looked at; %s", s.catalogue.Operators(), s.catalogue.Nodes(), b.proof)
	p.adopt(&flow{epoch: 1, print: b}, nil)
	p.info.Path, p.info.Request, p.info.Owner, p.info.State = r.Path, r.Line, asker.ID, Planned
	p.info.Created, p.info.PlanTime, p.info.Search, p.info.Expires = begun, c.cfg.World.Now().Sub(begun), s.search, s.claims.Expires
	s.print = b
	return p, s, nil
}

// sketch checks a request and plans it with what the asker may see. When the error is a refusal, the sketch is as far as
// it came.
func (c *Creator) sketch(ctx context.Context, asker ca.Peer, r Request, without ...ca.ID) (*sketch, error) {
	form, words, err := r.check()
	if err != nil {
		return nil, err
	}
	s := &sketch{form: form}
	if s.claims, err = c.claims(asker, r.Capability, r.Path); err != nil {
		return nil, err
	}
	if err = c.match(ctx, r.Capability, words); err != nil {
		return nil, err
	}
	if s.live, err = c.see(ctx, r.Capability, s.claims, words); err != nil {
		return nil, err
	}
	if err := s.look(words, c.learned); err != nil {
		return s, err
	}
	for _, id := range without {
		s.request.Without = append(s.request.Without, string(id))
	}
	begun := c.cfg.World.Now()
	if s.live.key == "" {
		s.best, err = s.catalogue.Plan(ctx, s.request)
	} else {
		s.best, err = c.cache.Plan(ctx, s.live.key, s.catalogue, s.request)
	}
	s.search = c.cfg.World.Now().Sub(begun)
	var no *plan.Refusal
	if errors.As(err, &no) {
		err = refused(no)
	}
	return s, err
}

// draw makes the blueprint of the best plan.
func (s *sketch) draw() (*blueprint, error) { return s.drawUp(s.best) }

func (s *sketch) drawUp(best *plan.Plan) (*blueprint, error) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	return s.live.view.blueprint(best)
}

// position is where the unit that the data comes from says it is.
func (s *sketch) position() *operators.Position {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	return s.live.view.position(s.request.From)
}

// claims checks a capability that came with a request.
func (c *Creator) claims(asker ca.Peer, token []byte, path string) (capability.Claims, error) {
	claims, err := c.cfg.Claims(token)
	if err != nil {
		return claims, fmt.Errorf("%w: the capability: %w", ErrBadRequest, err)
	}
	if claims.Principal != asker.ID || claims.Path != path {
		return claims, fmt.Errorf("%w: the capability is %s's for the path %q, the request %s's for %q", ErrBadRequest,
			claims.Principal, claims.Path, asker.ID, path)
	}
	return claims, nil
}

// look gives the words of the request their meaning and takes the catalogue that they need.
func (s *sketch) look(words []word, l *learned) error {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	v := s.live.view
	meant := make(map[plan.Word][]offer)
	named := make(map[string]bool)
	for i := range words {
		offers := v.offers(&words[i])
		meant[words[i].Word] = offers
		for _, o := range offers {
			if len(o.operators) > 0 && o.operators[0].Fixed {
				named[o.service] = true
			}
		}
	}
	var err error
	if s.request, err = resolve(s.form, words, func(w plan.Word) []offer { return meant[w] }); err != nil {
		return err
	}
	v.absorb(l)
	if s.catalogue, err = v.catalogue(named); err != nil {
		return err
	}
	s.catalogue, err = v.extended(s.catalogue, s.form, words)
	return err
}

// offers are the things that a word means.
func (v *view) offers(w *word) []offer {
	if w.raw != nil {
		return nil
	}
	among := v.kinds[w.kind]
	if owner, _, ok := strings.Cut(w.id, "#"); ok {
		among = v.owners[ca.ID(owner)]
	} else if w.template != nil {
		among = make(map[string]*thing)
		for id := range w.matches {
			if t := v.things[id]; t != nil {
				among[id] = t
			}
		}
	}
	var all []offer
	for _, id := range slices.Sorted(maps.Keys(among)) {
		t := among[id]
		o := offer{service: id, kind: t.Description.Kind}
		for i := range t.Operators {
			name := t.fixedName(t.Operators[i])
			if t.dynamic() {
				name = v.names[alike(&t.Operators[i])]
			}
			if op, ok := v.operator(name); ok {
				o.operators = append(o.operators, op)
			}
		}
		all = append(all, o)
	}
	return w.pick(all)
}

// refused is the error for a request that cannot be met.
func refused(no *plan.Refusal) error { return fmt.Errorf("%w: %w", ErrRefused, no) }

// position is where the unit at an endpoint says it is.
func (v *view) position(endpoint string) *operators.Position {
	if f, ok := v.fixed[endpoint]; ok {
		return f.Position
	}
	return nil
}

// spareTime bounds the search for the alternatives of one path.
const spareTime = 2 * time.Second

// prepare makes the plans that a path goes over to when one of its nodes is lost, ahead, so that a repair need not search.
// It waits its turn: plans that somebody waits for go first.
func (c *Creator) prepare(ctx context.Context, p *path, s *sketch, epoch uint32) {
	select {
	case c.preparing <- struct{}{}:
		defer func() { <-c.preparing }()
	case <-ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(ctx, spareTime)
	defer cancel()
	kept := s.catalogue.Keep(ctx, s.request, s.best)
	spares := 0
	nodes := make(map[ca.ID]bool)
	for _, step := range s.best.Steps {
		if id := step.Node.ID; !nodes[id] {
			nodes[id] = true
			if kept.Replan(id) != nil {
				spares++
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.info.Epoch == epoch {
		p.spare, p.info.Spares = kept, spares
	}
}
