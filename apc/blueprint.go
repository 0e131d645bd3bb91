package apc

import (
	"fmt"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/operators/host"
)

// blueprint is a plan with all that its nodes have to be told.
type blueprint struct {
	plan  *plan.Plan
	steps []Step
	hops  []Hop
	data  map[string]host.DataSource
	fixed [2]bool // whether the first and the last step can be nowhere else
	cost  Cost
	score float64 // in the unit of the objective
	proof string
}

// blueprint draws a plan up; the error says which node cannot be found any more.
func (v *view) blueprint(best *plan.Plan) (*blueprint, error) {
	b := &blueprint{plan: best, data: make(map[string]host.DataSource), score: best.Cost}
	b.cost = Cost{CPU: best.CPU, Memory: best.Memory, Latency: best.Latency, Price: best.Price, Quality: best.Quality}
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
			v.source(b, a.Value)
		}
		b.steps = append(b.steps, step)
	}
	for i, h := range best.Hops {
		b.hops = append(b.hops, Hop{Hop: b.steps[i].Stage + "->" + b.steps[i+1].Stage, Type: h.Type, Transport: h.Transport})
		for _, param := range h.Type.Params() {
			v.source(b, param.Value)
		}
	}
	b.fixed = [2]bool{best.Steps[0].Operator.Fixed, best.Steps[len(best.Steps)-1].Operator.Fixed}
	proof := "no cheaper path exists among what you may find"
	if !best.Proven() {
		proof = fmt.Sprintf("the search ran out of time: at most %.0f %% dearer than the best", 100*(best.Cost-best.Bound)/best.Bound)
	}
	b.proof = fmt.Sprintf("cost %.3f; %s", best.Cost, proof)
	return b, nil
}

// source notes where external data can be fetched, when the text is a reference to it.
func (v *view) source(b *blueprint, text string) {
	ref, ok := operators.ParseRef(text)
	if !ok {
		return
	}
	if t := v.things[ref.Service]; t != nil && t.Node != nil {
		b.data[text] = host.DataSource{Address: t.Node.Data, Peer: t.Owner}
	}
}

// nodes cuts the blueprint into each node's assignment, in the order in which the data first meets them.
func (b *blueprint) nodes() []*node {
	var all []*node
	of := make(map[ca.ID]*node)
	for i, s := range b.steps {
		n, ok := of[s.Node]
		if !ok {
			n = &node{id: s.Node, control: s.control}
			of[s.Node], all = n, append(all, n)
		}
		stage := host.Stage{ID: s.Stage, Program: s.Program, Args: s.args, CPU: s.Cost.CPU}
		if i > 0 {
			h := b.hops[i-1]
			stage.In = &host.HopEnd{Hop: h.Hop, Transport: h.Transport, Type: h.Type, Peer: b.steps[i-1].Node, Playout: b.plan.Playout}
		}
		if i < len(b.hops) {
			h := b.hops[i]
			stage.Out = &host.HopEnd{Hop: h.Hop, Transport: h.Transport, Type: h.Type, Peer: b.steps[i+1].Node}
		}
		n.stages = append(n.stages, stage)
	}
	return all
}

// ends reports whether a node holds an endpoint: there is no doing without it.
func (b *blueprint) ends(id ca.ID) bool {
	return b.fixed[0] && b.steps[0].Node == id || b.fixed[1] && b.listener() == id
}

// listener is the node that the data comes to in the end.
func (b *blueprint) listener() ca.ID { return b.steps[len(b.steps)-1].Node }
