package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ninja/ca"
)

// equalWorld has 16^5 chains that cost the same, no two of which make the same type, each with many nodes to choose from.
func equalWorld(last string) Parts {
	var p Parts
	var nodes []ca.ID
	for i := range 32 {
		nodes = append(nodes, ca.ID(fmt.Sprint("spiffe://example.org/proxy/", i)))
		p.Nodes = append(p.Nodes, Node{ID: nodes[i], Cores: 4})
	}
	add := func(o Operator) { p.Operators = append(p.Operators, o) }
	add(op("from", "", "text/l0", 0, 0, 0, nodes[0]))
	params := ""
	for layer := range 5 {
		for k := range 16 {
			out := fmt.Sprintf("text/l%d%s;p%d=v%d", layer+1, params, layer, k)
			add(op(fmt.Sprintf("o%d-%d", layer, k), fmt.Sprintf("text/l%d%s", layer, params), out, time.Millisecond, 0.1, 1<<20, nodes...))
		}
		params += fmt.Sprintf(";p%d=$p%d", layer, layer)
	}
	add(op("to", strings.ReplaceAll("text/l5"+params, "$p4", last), "", 0, 0, 0, nodes[0]))
	return p
}

// A million plans that are equally good are as soon told apart as two; and when none of them will do, that is said.
func TestMillionEqualCosts(t *testing.T) {
	c, err := NewCatalogue(equalWorld("v7"))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []Request{
		{From: "from", To: "to"}, {From: "from", To: "to", Bounds: Bounds{Latency: 30 * time.Millisecond, CPU: 0.6, Memory: 5 << 20}},
		{From: "from", To: "to", Weights: Weights{Latency: 1}}, {From: "from", To: "to", Weights: Weights{Price: 1}},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		start := time.Now()
		p, err := c.Plan(ctx, q)
		cancel()
		if err != nil || !p.Proven() || len(p.Steps) != 7 {
			t.Fatalf("%+v: %v", q, err)
		}
		t.Logf("%+v: %v, %d chains, cost %v", q.Bounds, time.Since(start), p.Examined, p.Cost)
	}
	var no *Refusal
	q := Request{From: "from", To: "to", Bounds: Bounds{Memory: 4 << 20}}
	if _, err := c.Plan(context.Background(), q); !errors.As(err, &no) || no.Reason != NoBounds || no.Nearest == nil || no.Nearest.Bounds.Memory != 5<<20 {
		t.Errorf("refusal: %v", err)
	}
}

// nested is a context that does something when it is first asked whether it has ended.
type nested struct {
	context.Context
	do func()
}

func (n *nested) Err() error {
	if do := n.do; do != nil {
		n.do = nil
		do()
	}
	return n.Context.Err()
}

// A plan is made while another one on the same catalogue is in the middle of its search.
func TestPlansDoNotWait(t *testing.T) {
	c := demo(t)
	var inner *Plan
	outer, err := c.Plan(&nested{context.Background(), func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			inner, _ = c.Plan(context.Background(), demoRequest())
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the second plan waits for the first")
		}
	}}, demoRequest())
	if err != nil || inner == nil || inner.Text() != outer.Text() {
		t.Errorf("two plans at once: %v", err)
	}
}

// BenchmarkPlanParallel is how many plans all cores make on one catalogue.
func BenchmarkPlanParallel(b *testing.B) {
	c, err := NewCatalogue(bigWorld(10000, 1000, 1))
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Plan(context.Background(), demoRequest()); err != nil {
				b.Error(err)
			}
		}
	})
}
