package apc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/operators/host"
)

// planTime bounds the search; what has been found by then is taken if there is anything.
const planTime = 5 * time.Second

// plan turns a request into a path that has not been made yet.
func (c *Creator) plan(ctx context.Context, asker ca.Peer, r Request) (*path, error) {
	begun := c.cfg.World.Now()
	claims, err := c.cfg.Claims(r.Capability)
	if err != nil {
		return nil, fmt.Errorf("%w: the capability: %w", ErrBadRequest, err)
	}
	if claims.Principal != asker.ID || claims.Path != r.Path {
		return nil, fmt.Errorf("%w: the capability is %s's for the path %q, the request %s's for %q", ErrBadRequest,
			claims.Principal, claims.Path, asker.ID, r.Path)
	}
	form, err := plan.ParseForm(r.Line)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	v, err := c.look(ctx, r.Capability, wordsOf(form))
	if err != nil {
		return nil, err
	}
	request, err := v.request(form)
	if err != nil {
		return nil, err
	}
	catalogue, err := plan.NewCatalogue(v.parts())
	if err != nil {
		return nil, fmt.Errorf("%w: what was found cannot be planned with: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	best, err := catalogue.Plan(ctx, request)
	if err != nil {
		return nil, c.refused(err)
	}
	p := v.path(best)
	p.now, p.log, p.capability, p.expires = c.cfg.World.Now, c.cfg.Log, r.Capability, claims.Expires
	if p.position = r.Position; p.position == nil {
		p.position = v.position(form.From.Text)
	}
	p.info.Path, p.info.Request, p.info.Owner, p.info.State, p.info.Epoch = r.Path, r.Line, asker.ID, Planned, 1
	p.info.Created, p.info.PlanTime = begun, c.cfg.World.Now().Sub(begun)
	return p, nil
}

// refused passes the planner's reason on.
func (c *Creator) refused(err error) error {
	var no *plan.Refusal
	if errors.As(err, &no) {
		return fmt.Errorf("%w: %w", ErrRefused, no)
	}
	return err
}

// wordsOf lists what the request names, once each.
func wordsOf(f *plan.Form) []string {
	words := []string{f.From.Text}
	if f.To.Text != f.From.Text {
		words = append(words, f.To.Text)
	}
	seen := map[string]bool{f.From.Text: true, f.To.Text: true}
	for _, s := range f.Include {
		if !seen[s.Text] {
			seen[s.Text] = true
			words = append(words, s.Text)
		}
	}
	return words
}

// request names the planner's operators for the words of the form.
func (v *view) request(f *plan.Form) (plan.Request, error) {
	r := plan.Request{Bounds: f.Bounds, Weights: f.Weights, Steps: f.Steps}
	var err error
	if r.From, err = v.endpoint(f.From.Text, true); err != nil {
		return r, err
	}
	if r.To, err = v.endpoint(f.To.Text, false); err != nil {
		return r, err
	}
	for _, s := range f.Include {
		q, err := v.requirement(s.Text)
		if err != nil {
			return r, err
		}
		q.After = s.After
		r.Include = append(r.Include, q)
	}
	return r, nil
}

// position is where the unit at an endpoint says it is.
func (v *view) position(words string) *operators.Position {
	for _, t := range v.named[words] {
		if t.Position != nil {
			return t.Position
		}
	}
	return nil
}

// path is the plan as the path's blueprint.
func (v *view) path(best *plan.Plan) *path {
	p := &path{data: make(map[string]host.DataSource)}
	p.info.Cost = Cost{CPU: best.CPU, Memory: best.Memory, Latency: best.Latency, Price: best.Price, Quality: best.Quality}
	control := v.controls()
	for i, s := range best.Steps {
		spec := s.Operator.Spec
		step := Step{
			Stage: fmt.Sprintf("%d-%s", i+1, spec.Name), Operator: spec.Name, Service: s.Operator.Service, Node: s.Node.ID,
			Program: spec.Program, control: control[s.Node.ID], args: make(map[string]string),
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
	p.info.Explanation = fmt.Sprintf("%d operators and %d nodes looked at; cost %.3f; %s", len(v.operators), len(control), best.Cost, proof)
	return p
}

// controls are the control addresses of the nodes.
func (v *view) controls() map[ca.ID]string {
	at := make(map[ca.ID]string)
	for _, t := range v.all() {
		if t.Node != nil && at[t.Owner] == "" {
			at[t.Owner] = t.Node.Control
		}
	}
	return at
}

func (v *view) all() []thing {
	all := append([]thing(nil), v.proxies...)
	for _, things := range v.named {
		all = append(all, things...)
	}
	return all
}

// source notes where external data can be fetched, when the text is a reference to it.
func (v *view) source(p *path, text string) {
	ref, ok := operators.ParseRef(text)
	if !ok {
		return
	}
	for _, t := range v.all() {
		if t.ID == ref.Service && t.Node != nil {
			p.data[text] = host.DataSource{Address: t.Node.Data, Peer: t.Owner}
		}
	}
}
