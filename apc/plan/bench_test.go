package plan

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"ninja/ca"
)

// bigWorld is a network of nodes in the plane, of which each runs a few of 64 program sets, and operators between media
// types with rates and meanings: the demo's path is in it, among rivals.
func bigWorld(ops, nodes int, seed uint64) Parts {
	r := rand.New(rand.NewPCG(seed, 2))
	p := demoParts()
	regions := min(32, max(4, nodes/50))
	type point struct{ x, y float64 }
	at := make([]point, regions)
	for i := range at {
		at[i] = point{r.Float64() * 80, r.Float64() * 80}
		for j := range i {
			d := math.Hypot(at[i].x-at[j].x, at[i].y-at[j].y)
			p.Links = append(p.Links, Link{From: fmt.Sprint("r", i), To: fmt.Sprint("r", j), Latency: time.Duration((2 + d) * float64(time.Millisecond))})
		}
	}
	pools := make([][]ca.ID, 64)
	p.Nodes = p.Nodes[2:] // the base and the telephone stay
	p.Nodes[0].Region, p.Nodes[1].Region = "r0", "r1"
	for i := range nodes {
		id := ca.ID(fmt.Sprintf("spiffe://example.org/proxy/p%d", i))
		cores := pick(r, 2.0, 4, 8)
		p.Nodes = append(p.Nodes, Node{ID: id, Region: fmt.Sprint("r", r.IntN(regions)), Cores: cores, Load: cores * r.Float64() * 0.9, Memory: pick[int64](r, 1<<30, 4<<30)})
		set := r.IntN(16) // one of 16 kinds of node, of 8 program sets each
		for k := range 8 {
			pools[(set*5+k*7)%64] = append(pools[(set*5+k*7)%64], id)
		}
	}
	lists := make([][]Place, len(pools))
	for i, pool := range pools {
		for _, n := range pool {
			lists[i] = append(lists[i], Place{Node: n})
		}
	}
	pool := func() []Place { return lists[r.IntN(64)] }
	for i := range p.Operators {
		if !p.Operators[i].Fixed {
			p.Operators[i].Places = pool()
		}
	}
	media := max(8, ops/25)
	for i := len(p.Operators); i < ops; i++ {
		a, b := r.IntN(media), r.IntN(media)
		name := func(i int) string { // the demo's media are in it
			return pick(r, fmt.Sprintf("text/m%d;about=$a", i), fmt.Sprintf("text/m%d;about=$a", i), fmt.Sprintf("text/m%d;about=v%d", i, r.IntN(20)))
		}
		in, out := name(a), name(b)
		switch r.IntN(12) {
		case 0:
			in = pick(r, "audio/L16;rate=$r;channels=1", "audio/PCMU;rate=8000;channels=1", "text/plain;about=$a;lang=en", "audio/L16;rate=16000;channels=1")
		case 1:
			out = pick(r, "audio/L16;rate=16000;channels=1", "text/plain;about=address;grammar=$g;lang=en", "text/plain;about=$g;grammar=$h;lang=en", "text/plain;about=directions;lang=en", "audio/L16;rate=8000|22050;channels=1")
		case 2:
			in, out = "audio/L16;rate=$f:4000..192000;channels=$c", "audio/L16;rate=$t:4000..192000;channels=$c"
		}
		o := op(fmt.Sprint("op", i), in, out, time.Duration(1+r.IntN(60))*time.Millisecond, r.Float64()*0.4, int64(r.IntN(100))<<20)
		o.Places = pool()
		o.Spec.Cost.Quality = 0.9 + r.Float64()/10
		p.Operators = append(p.Operators, o)
	}
	return p
}

var benchBounds = map[string]Bounds{"none": {}, "cpumem": {CPU: 1, Memory: 400 << 20}, "latency": {Latency: 480 * time.Millisecond}}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		for _, m := range []int{100, 1000, 10000} {
			for _, bounds := range []string{"none", "cpumem", "latency"} {
				b.Run(fmt.Sprintf("operators=%d/nodes=%d/bounds=%s/cold", n, m, bounds), func(b *testing.B) { benchCold(b, n, m, benchBounds[bounds]) })
			}
		}
	}
}

func benchCold(b *testing.B, n, m int, bounds Bounds) {
	c, err := NewCatalogue(bigWorld(n, m, 1))
	if err != nil {
		b.Fatal(err)
	}
	q := demoRequest()
	q.Bounds = bounds
	c.prepare()
	var took []time.Duration
	var p *Plan
	for b.Loop() {
		c.tables.forget()
		start := time.Now()
		if p, err = c.Plan(context.Background(), q); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	report(b, took)
	b.ReportMetric((p.Cost-p.Bound)/p.Cost, "gap")
	b.ReportMetric(float64(p.Examined), "chains")
}

// report gives the quantiles of the runs.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) }
	b.ReportMetric(at(0.5), "p50-us")
	b.ReportMetric(at(0.99), "p99-us")
}

// The cached plan is a look-up.
func BenchmarkPlanCached(b *testing.B) {
	c, err := NewCatalogue(bigWorld(10000, 1000, 1))
	if err != nil {
		b.Fatal(err)
	}
	k, q := NewCache(0), demoRequest()
	for b.Loop() {
		if _, err := k.Plan(context.Background(), "v", c, q); err != nil {
			b.Fatal(err)
		}
	}
}

// One node dies: the plan to go over to is among those kept.
func BenchmarkReplan(b *testing.B) {
	c, err := NewCatalogue(bigWorld(10000, 1000, 1))
	if err != nil {
		b.Fatal(err)
	}
	q := demoRequest()
	p, err := c.Plan(context.Background(), q)
	if err != nil {
		b.Fatal(err)
	}
	kept := c.Keep(context.Background(), q, p)
	dead := p.Steps[1].Node.ID
	for b.Loop() {
		if kept.Replan(dead) == nil {
			b.Fatal("no alternative")
		}
	}
}

// BenchmarkRivals sets the planner beside simpler ones in the same run: x-dijkstra is its time over that of Dijkstra's
// algorithm on the type graph alone, which neither places nor unifies; cost-x-two-phase is what the manner of the paper's
// prototype costs over it: the cheapest few operator chains first, each step then on its least loaded node.
func BenchmarkRivals(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("operators=%d/nodes=1000", n), func(b *testing.B) {
			var ratios []float64
			var plan, dijkstra time.Duration
			for seed := range uint64(8) {
				c, err := NewCatalogue(bigWorld(n, 1000, seed))
				if err != nil {
					b.Fatal(err)
				}
				c.prepare()
				start := time.Now()
				p, err := c.Plan(context.Background(), demoRequest())
				if err != nil {
					b.Fatal(err)
				}
				plan += time.Since(start)
				two := twoPhase(c, demoRequest(), &dijkstra)
				ratios = append(ratios, two/p.Cost)
			}
			for b.Loop() {
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "cost-x-two-phase-p50")
			b.ReportMetric(ratios[len(ratios)-1], "cost-x-two-phase-max")
			b.ReportMetric(float64(plan)/float64(dijkstra), "x-dijkstra")
		})
	}
}

// twoPhase chooses operators as if places cost nothing, then places them one by one on the least loaded node.
func twoPhase(c *Catalogue, r Request, dijkstra *time.Duration) float64 {
	start := time.Now()
	p, err := newProblem(c, r)
	if err != nil {
		return math.Inf(1)
	}
	p.makeBounds()
	for len(p.bounds.ops[0].heap) > 0 {
		p.grow(p.bounds.ops[0])
	}
	*dijkstra += time.Since(start)
	flat, err := NewCatalogue(flattened(c))
	if err != nil {
		return math.Inf(1)
	}
	logical, err := flat.Plan(context.Background(), r)
	if err != nil {
		return math.Inf(1)
	}
	cost, last := 0.0, int32(-1)
	for i, s := range logical.Steps {
		op := c.byName[s.Name]
		v := c.base[op]
		node := int32(-1)
		for _, n := range c.now.byLoad(c, c.places[op]) {
			if p.fits(n, &v) {
				node = n
				break
			}
		}
		cost += p.stepCost(op, node, &v)
		if i > 0 {
			local, far := p.rides(c.byName[logical.Steps[i-1].Name], op, logical.Hops[i-1].Type.Media())
			least := math.Inf(1)
			for _, ride := range append(local, far...) {
				if ride.t.Local == (node == last) && c.zones[c.nodeZone[last]].mask&c.zones[c.nodeZone[node]].mask&(1<<ride.scheme) != 0 {
					v := p.hopVector(ride.t, int(c.nodeZone[last]), int(c.nodeZone[node]))
					least = min(least, p.w.of(v))
				}
			}
			cost += least
		}
		last = node
	}
	return cost
}

// flattened is a catalogue's world on one node: operators without places.
func flattened(c *Catalogue) Parts {
	p := c.parts
	p.Nodes, p.Links = []Node{{ID: "spiffe://example.org/proxy/all"}}, nil
	p.Operators = slices.Clone(c.ops)
	for i := range p.Operators {
		p.Operators[i].Places = []Place{{Node: p.Nodes[0].ID}}
		p.Operators[i].Spec.Transports = nil
	}
	return p
}
