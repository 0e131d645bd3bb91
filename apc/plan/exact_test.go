package plan

import (
	"context"
	"math"
	"testing"
	"time"
)

// What makes the search quick leaves no better plan out: fences, bounds worked out from both ends, and prices give the plan
// that a search without them gives.
func TestQuickWaysLeaveNothingOut(t *testing.T) {
	compared, bound := 0, 0
	for seed := range uint64(2 * scale()) {
		parts := bigWorld(700, 40, seed+100)
		c, err := NewCatalogue(parts)
		if err != nil {
			t.Fatal(err)
		}
		for _, free := range bigRequests(parts, seed) {
			for _, dims := range [][]int{nil, {resLatency}, {resCPU}, {resCPU, resMemory}} {
				q := narrowed(c, free, dims)
				p, err := newProblem(c, q)
				if err != nil {
					continue
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				quick := p.solve(ctx)
				p, _ = newProblem(c, q)
				p.proving = true
				slow := p.solve(ctx)
				late := ctx.Err() != nil
				cancel()
				if late {
					continue
				}
				if compared++; dims != nil {
					bound++
				}
				if (quick.best == nil) != (slow.best == nil) || quick.best != nil && math.Abs(quick.cost-slow.cost) > 1e-9 {
					t.Errorf("seed %d, %s to %s, bounds %+v: cost %v, without them %v", seed, q.From, q.To, q.Bounds, quick.cost, slow.cost)
				}
			}
		}
	}
	t.Logf("%d requests compared, %d of them with bounds that bind", compared, bound)
	if bound < 8 {
		t.Errorf("only %d requests with bounds were compared", bound)
	}
}

// narrowed is a request with bounds halfway from what the best plan takes to the least that is possible.
func narrowed(c *Catalogue, q Request, dims []int) Request {
	for _, d := range dims {
		best, low := c.solveOnly(context.Background(), q), c.solveOnly(context.Background(), minimal(q, d))
		if best == nil || low == nil {
			continue
		}
		switch d {
		case resLatency:
			q.Bounds.Latency = (best.Latency + low.Latency) / 2
		case resCPU:
			q.Bounds.CPU = (best.CPU + low.CPU) / 2
		case resMemory:
			q.Bounds.Memory = (best.Memory + low.Memory) / 2
		}
	}
	return q
}
