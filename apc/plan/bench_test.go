package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// benchCase is one request of one world.
type benchCase struct {
	view    string // a name of the world: catalogues that do not come of each other share no cached plans
	c, flat *Catalogue
	g       *typeGraph
	q       Request
}

// benchWorlds are how many worlds, each with its requests, stand behind one line.
const benchWorlds = 3

// benchCases are several requests in several worlds of a size, without those that have no plan.
func benchCases(b *testing.B, n, m int) (out []benchCase) {
	for seed := range uint64(benchWorlds) {
		parts := bigWorld(n, m, seed+1)
		c, err := NewCatalogue(parts)
		if err != nil {
			b.Fatal(err)
		}
		flat, err := NewCatalogue(flattened(c))
		if err != nil {
			b.Fatal(err)
		}
		c.prepare()
		g := newTypeGraph(c)
		for _, q := range bigRequests(parts, seed) {
			if _, err := c.Plan(context.Background(), q); err == nil {
				out = append(out, benchCase{fmt.Sprint("world", seed), c, flat, g, q})
			}
		}
	}
	return out
}

// benchBudget is the time that a plan may take; what is not proven by then shows as a gap.
const benchBudget = time.Second

// timed is a plan within the budget; nil when not even one was found.
func (x *benchCase) timed(b *testing.B, q Request) (*Plan, time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), benchBudget)
	defer cancel()
	start := time.Now()
	p, err := x.c.Plan(ctx, q)
	if err != nil && !errors.Is(err, ErrBudget) {
		b.Fatal(err)
	}
	return p, time.Since(start)
}

// bind gives the requests bounds that bind: halfway from what the best plan takes to the least that is possible.
func bind(b *testing.B, cases []benchCase, bounds string) []benchCase {
	out := slices.Clone(cases)
	for i := range out {
		x := &out[i]
		for _, d := range map[string][]int{"cpumem": {resCPU, resMemory}, "latency": {resLatency}}[bounds] {
			best, _ := x.timed(b, x.q)
			low, _ := x.timed(b, minimal(x.q, d))
			if best == nil || low == nil {
				continue
			}
			switch d {
			case resLatency:
				x.q.Bounds.Latency = (best.Latency + low.Latency) / 2
			case resCPU:
				x.q.Bounds.CPU = (best.CPU + low.CPU) / 2
			case resMemory:
				x.q.Bounds.Memory = (best.Memory + low.Memory) / 2
			}
		}
	}
	return out
}

// BenchmarkPlan goes over several requests in several worlds of each size, in turn. Beside the time:
//
//	gap                   the largest proven gap: 0 when every plan was proven best within benchBudget
//	unfound               requests for which no plan at all was found by then
//	cost-x-two-phase      the median of what choosing operators first and nodes afterwards costs, over the plan
//	two-phase-misses      the share of requests for which that breaks a bound or a node's room
//	p50-cpu-ms            the processor time of the search, without what the machine did else
//	x-dijkstra            the time over that of Dijkstra's algorithm on media types alone, the median of the ratios
//	chains                chains taken from the queue, the mean
//
// Cold is a request that was never seen, on a snapshot that is there: what depends on the snapshot alone (the indexes, the
// closed matrix of regions, the graph of abstract types) is made with it and kept up with its changes, and measured by
// BenchmarkCatalogue. Nothing is left of earlier plans: no unified types, no bounds, and nothing that follows from the loads
// of the nodes, so that it is also what the first plan after a change of loads takes. Cached is the same plan again.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		for _, m := range []int{100, 1000, 10000} {
			var cases []benchCase
			for _, bounds := range []string{"none", "cpumem", "latency"} {
				var bound []benchCase
				for _, kind := range []string{"cold", "cached"} {
					b.Run(fmt.Sprintf("operators=%d/nodes=%d/bounds=%s/%s", n, m, bounds, kind), func(b *testing.B) {
						if cases == nil {
							cases = benchCases(b, n, m)
						}
						if bound == nil {
							bound = bind(b, cases, bounds)
						}
						if kind == "cold" {
							benchCold(b, bound)
						} else {
							benchCached(b, bound)
						}
					})
				}
			}
		}
	}
}

func benchCold(b *testing.B, cases []benchCase) {
	took := make([][]time.Duration, len(cases))
	plans := make([]*Plan, len(cases))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var cpu []time.Duration
	for i := 0; b.Loop(); i++ {
		k := i % len(cases)
		chill(cases[k].c)
		before := threadTime()
		p, d := cases[k].timed(b, cases[k].q)
		cpu = append(cpu, threadTime()-before)
		took[k], plans[k] = append(took[k], d), p
	}
	report(b, slices.Concat(took...))
	slices.Sort(cpu)
	b.ReportMetric(float64(cpu[len(cpu)/2])/1e6, "p50-cpu-ms")
	b.ReportMetric(float64(cpu[len(cpu)*99/100])/1e6, "p99-cpu-ms")
	beside(b, cases, plans, took)
}

// threadTime is the processor time that the search's thread has taken: what else runs on the machine hardly moves it.
func threadTime() time.Duration {
	var u syscall.Rusage
	const thread = 1 // RUSAGE_THREAD
	if err := syscall.Getrusage(thread, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// chill drops what earlier plans left behind.
func chill(c *Catalogue) {
	c.tables.pool.forget()
	c.now = &numbers{}
}

// beside sets the plans beside simpler planners.
func beside(b *testing.B, cases []benchCase, plans []*Plan, took [][]time.Duration) {
	var ratios, times []float64
	gap, chains, misses, none := 0.0, 0.0, 0.0, 0.0
	for k, p := range plans {
		if len(took[k]) == 0 { // too few rounds to come to it
			continue
		}
		if p == nil {
			none++
			continue
		}
		x := cases[k]
		gap, chains = max(gap, (p.Cost-p.Bound)/p.Cost), chains+float64(p.Examined)
		if two := twoPhase(x.c, x.flat, x.q); math.IsInf(two, 1) {
			misses++
		} else {
			ratios = append(ratios, two/p.Cost)
		}
		start := time.Now()
		for range 3 {
			x.g.dijkstra(x.c, x.q)
		}
		slices.Sort(took[k])
		times = append(times, 3*float64(took[k][len(took[k])/2])/float64(time.Since(start)))
	}
	slices.Sort(ratios)
	slices.Sort(times)
	if len(ratios) > 0 {
		b.ReportMetric(ratios[len(ratios)/2], "cost-x-two-phase")
	}
	if b.ReportMetric(none, "unfound"); len(times) == 0 {
		return
	}
	b.ReportMetric(times[len(times)/2], "x-dijkstra")
	b.ReportMetric(gap, "gap")
	b.ReportMetric(chains/float64(len(times)), "chains")
	b.ReportMetric(misses/float64(len(times)), "two-phase-misses")
}

func benchCached(b *testing.B, cases []benchCase) {
	k := NewCache(0)
	var kept []benchCase
	for _, x := range cases { // what is not proven in time is not kept
		ctx, cancel := context.WithTimeout(context.Background(), benchBudget)
		if p, err := k.Plan(ctx, x.view, x.c, x.q); err == nil && p.Proven() {
			kept = append(kept, x)
		}
		cancel()
	}
	if cases = kept; len(cases) == 0 {
		b.Fatal("nothing was proven in time")
	}
	var took []time.Duration
	gap := 0.0
	for i := 0; b.Loop(); i++ {
		x := cases[i%len(cases)]
		start := time.Now()
		p, err := k.Plan(context.Background(), x.view, x.c, x.q)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		gap = max(gap, (p.Cost-p.Bound)/p.Cost)
	}
	report(b, took)
	b.ReportMetric(gap, "gap")
}

// report gives the quantiles of the runs.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(math.Ceil(q*float64(len(took))))-1]) / 1e6 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
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

// BenchmarkCatalogue is what the versioned snapshot costs, apart from any plan: Build all of it, Change one operator that
// learned another cost, one node's load, and one endpoint outside it. x-build is the time over that of building.
func BenchmarkCatalogue(b *testing.B) {
	for _, n := range []int{10000, 100000} {
		parts := bigWorld(n, 10000, 1)
		start := time.Now()
		c, err := NewCatalogue(parts)
		if err != nil {
			b.Fatal(err)
		}
		c.prepare()
		whole := time.Since(start)
		b.Run(fmt.Sprintf("Build/operators=%d", n), func(b *testing.B) {
			for b.Loop() {
				c, err := NewCatalogue(parts)
				if err != nil {
					b.Fatal(err)
				}
				c.prepare()
			}
		})
		learned := parts.Operators[50]
		learned.Spec.Cost.CPU *= 2
		node := parts.Nodes[7]
		node.Load /= 2
		q := Request{Source: &Endpoint{Name: "rtp://192.0.2.1:4000", Type: parts.Operators[0].Spec.Out}, To: "phone/speaker"}
		for _, k := range []struct {
			name string
			do   func() error
		}{
			{"operator", func() error { _, err := c.With(Change{Operators: []Operator{learned}}); return err }},
			{"load", func() error { _, err := c.With(Change{Nodes: []Node{node}}); return err }},
			{"endpoint", func() error { _, err := c.attach(&q); return err }},
		} {
			b.Run(fmt.Sprintf("Change/operators=%d/%s", n, k.name), func(b *testing.B) {
				for b.Loop() {
					if err := k.do(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(whole), "x-build")
			})
		}
	}
}
