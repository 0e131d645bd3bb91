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
	"ninja/operators/host"
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
	s.live.mu.Lock()
	p, err := s.live.view.path(s.best)
	if p != nil && r.Position == nil {
		p.position = s.live.view.position(s.request.From)
	}
	s.live.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	if r.Position != nil {
		p.position = r.Position
	}
	p.now, p.log, p.capability, p.expires = c.cfg.World.Now, c.cfg.Log, r.Capability, s.claims.Expires
	p.learn = c.learned
	p.info.Path, p.info.Request, p.info.Owner, p.info.State, p.info.Epoch = r.Path, r.Line, asker.ID, Planned, 1
	p.info.Explanation = fmt.Sprintf("%d operators and %d nodes looked at; %s", s.catalogue.Operators(), s.catalogue.Nodes(), p.info.Explanation)
	p.info.Created, p.info.PlanTime, p.info.Search = begun, c.cfg.World.Now().Sub(begun), s.search
	return p, s, nil
}

// sketch checks a request and plans it with what the asker may see. When the error is a refusal, the sketch is as far as
// it came.
func (c *Creator) sketch(ctx context.Context, asker ca.Peer, r Request) (*sketch, error) {
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
	if s.request, err = resolve(s.form, func(w plan.Word) []offer { return meant[w] }); err != nil {
		return err
	}
	v.absorb(l)
	s.catalogue, err = v.catalogue(named)
	return err
}

// offers are the things that a word means.
func (v *view) offers(w *word) []offer {
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

// path is the plan as the path's blueprint.
func (v *view) path(best *plan.Plan) (*path, error) {
	p := &path{data: make(map[string]host.DataSource)}
	p.info.Cost = Cost{CPU: best.CPU, Memory: best.Memory, Latency: best.Latency, Price: best.Price, Quality: best.Quality}
	for i, s := range best.Steps {
		spec := s.Operator.Spec
		at := v.nodeThing(s.Node.ID)
		if at == nil {
			return nil, fmt.Errorf("%s is gone since the path was planned: ask again", s.Node.ID)
		}
		step := Step{
			Stage: fmt.Sprintf("%d-%s", i+1, spec.Name), Operator: spec.Name, Service: s.Operator.Service, Node: s.Node.ID,
			Program: spec.Program, control: at.Node.Control, described: spec.Cost, name: s.Name, args: make(map[string]string),
			Cost: Cost{CPU: s.CPU, Memory: s.Memory, Latency: s.Latency, Price: s.Price, Quality: s.Quality},
		}
		for _, a := range spec.Args {
			step.args[a.Name] = a.Value
			v.source(p, a.Value)
		}
		p.info.Steps = append(p.info.Steps, step)
	}
	for i, h := range best.Hops {
		p.info.Hops = append(p.info.Hops, Hop{
			Hop:  p.info.Steps[i].Stage + "->" + p.info.Steps[i+1].Stage,
			Type: h.Type, Transport: h.Transport,
		})
		for _, param := range h.Type.Params() {
			v.source(p, param.Value)
		}
	}
	proof := "no cheaper path exists among what you may find"
	if !best.Proven() {
		proof = fmt.Sprintf("the search ran out of time: at most %.0f %% dearer than the best", 100*(best.Cost-best.Bound)/best.Bound)
	}
	p.info.Explanation = fmt.Sprintf("cost %.3f; %s", best.Cost, proof)
	return p, nil
}

// source notes where external data can be fetched, when the text is a reference to it.
func (v *view) source(p *path, text string) {
	ref, ok := operators.ParseRef(text)
	if !ok {
		return
	}
	if t := v.things[ref.Service]; t != nil && t.Node != nil {
		p.data[text] = host.DataSource{Address: t.Node.Data, Peer: t.Owner}
	}
}

// spareTime bounds the search for the alternatives of one path.
const spareTime = 2 * time.Second

// prepare makes the plans that a path goes over to when one of its nodes is lost, ahead, so that a repair need not search.
// It waits its turn: plans that somebody waits for go first.
func (c *Creator) prepare(ctx context.Context, p *path, s *sketch) {
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
	p.spare, p.info.Spares = kept, spares
}
