package plan

import (
	"container/heap"
	"context"
	"math"
	"testing"
	"time"

	"ninja/ca"
	"ninja/operators"
)

// jointState is an operator at a node with an open type and progress: all that a path's future depends on while nothing
// is bound and no node is full.
type jointState struct {
	op, open string
	node     ca.ID
	mask     uint32
}

type jointItem struct {
	cost float64
	s    jointState
}

type jointQueue []jointItem

func (q jointQueue) Len() int           { return len(q) }
func (q jointQueue) Less(i, j int) bool { return q[i].cost < q[j].cost }
func (q jointQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *jointQueue) Push(x any)        { *q = append(*q, x.(jointItem)) }
func (q *jointQueue) Pop() any {
	x := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return x
}

// joint is Dijkstra's algorithm over types, progress and nodes at once: no bounds, no labels, no zones, nothing left out.
// It is far slower than the planner and shares only the unifier with it.
func joint(b *brute) float64 {
	opens := map[string]operators.Open{}
	done := map[jointState]bool{}
	var q jointQueue
	push := func(cost float64, o *Operator, pl Place, t operators.Open, mask uint32) {
		n := b.node(pl.Node)
		k := o.Spec.Cost
		if pl.Cost != nil {
			k = *pl.Cost
		}
		v := costVector(k, o.Fixed)
		opens[t.Key()] = t
		cost += b.weigh(v) + b.w.Load*(n.Load/max(n.Cores, 1))*(v[1]+0.01) + b.w.Steps
		heap.Push(&q, jointItem{cost, jointState{o.Name, t.Key(), pl.Node, mask}})
	}
	from := b.operator(b.q.From)
	t, err := operators.OpenOf(from.Name, from.Spec.Out)
	if err != nil {
		return math.Inf(1)
	}
	for _, pl := range from.Places {
		push(0, from, pl, t, 0)
	}
	for len(q) > 0 {
		x := heap.Pop(&q).(jointItem)
		if done[x.s] {
			continue
		}
		done[x.s] = true
		if x.s.op == b.q.To {
			return x.cost
		}
		for i := range b.p.Operators {
			o := &b.p.Operators[i]
			isTo := o.Name == b.q.To
			if o.Spec.In.IsZero() || o.Spec.Out.IsZero() && !isTo || isTo && x.s.mask != 1<<len(b.q.Include)-1 {
				continue
			}
			next, err := opens[x.s.open].Then(x.s.op, o.Spec.Link())
			if err != nil {
				continue
			}
			mask := x.s.mask
			for r, want := range b.q.Include { // at most one requirement an operator, in these worlds
				for _, name := range want.Any {
					if name == o.Name {
						mask |= 1 << r
					}
				}
			}
			for _, pl := range o.Places {
				b.chain, b.nodes = []*Operator{b.operator(x.s.op), o}, []*Node{b.node(x.s.node), b.node(pl.Node)}
				for _, h := range b.hops(1, o.Spec.In.Media()) {
					push(x.cost+b.weigh(h), o, pl, next, mask)
				}
			}
		}
	}
	return math.Inf(1)
}

// The planner's proof holds in worlds that are too large to try everything: a search that leaves nothing out agrees.
func TestEqualToJointSearch(t *testing.T) {
	for seed := range uint64(5 * scale()) {
		p := bigWorld(200, 16, seed)
		for i := range p.Nodes { // nothing is full
			p.Nodes[i].Memory, p.Nodes[i].Cores = 0, 0
		}
		p.Transports = Transports()
		q := demoRequest()
		if seed%2 == 1 {
			q.Include = nil
			q.From, q.To = "phone/microphone", "phone/speaker"
			q.Include = []Requirement{{Label: "?voice", Any: []string{"text-to-speech"}}, {Label: "?map", Any: []string{"map/directions"}}}
		}
		c, err := NewCatalogue(p)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		got, err := c.Plan(context.Background(), q)
		mine := time.Since(start)
		want := joint(newBrute(p, q))
		if err != nil && !math.IsInf(want, 1) || err == nil && (math.Abs(got.Cost-want) > 1e-9 || !got.Proven()) {
			t.Errorf("seed %d: %v (%v), joint search %v", seed, got, err, want)
		}
		t.Logf("seed %d: cost %v, planner %v, joint search %v", seed, want, mine, time.Since(start)-mine)
	}
}
