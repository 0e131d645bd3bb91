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
	pool := func() (out []Place) {
		for _, n := range pools[r.IntN(64)] {
			out = append(out, Place{Node: n})
		}
		return out
	}
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
		c.forget()
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

// forget drops what plans have taught a catalogue, but not its index.
func (c *Catalogue) forget() {
	t := c.tables
	t.opens, t.byKey, t.next = nil, make(map[string]int32), make(map[uint64]int32)
}
