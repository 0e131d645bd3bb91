package roads

import (
	"context"
	"errors"
	"math"
	"slices"
)

// Route is a way to drive.
type Route struct {
	Metres, Seconds float64
	From, To        Spot
	// Steps are what the driver is told; the last is the arrival.
	Steps []Step

	arcs []int32
}

// ErrNoRoute means that no road leads from one place to the other.
var ErrNoRoute = errors.New("no road leads there")

// Costs of turning, in seconds: crossing the other lane takes time, and nobody likes to turn back.
const (
	leftSeconds  = 7
	rightSeconds = 3
	backSeconds  = 60
)

// Route finds the fastest way between two places by A* over arcs, so that turns have a cost too.
func (g *Graph) Route(ctx context.Context, from, to Spot) (*Route, error) {
	s := newSearch(g, from, to)
	for rounds := 0; len(s.queue) > 0; rounds++ {
		if rounds%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		it := s.queue.pop()
		if it.arc == goal {
			return s.route(), nil
		}
		if it.cost > float64(s.cost[it.arc])+1e-3 {
			continue
		}
		s.expand(it)
	}
	return nil, ErrNoRoute
}

// goal is the arc that stands for having arrived.
const goal = -1

type item struct {
	arc            int32
	cost, estimate float64
}

// queue is a heap of items, the least estimate first. (container/heap boxes every item: twice the time.)
type queue []item

func (q *queue) push(it item) {
	h := append(*q, it)
	i := len(h) - 1
	for i > 0 && it.estimate < h[(i-1)/2].estimate {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = it
	*q = h
}

func (q *queue) pop() item {
	h := *q
	top, it := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	*q = h
	i := 0
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].estimate < h[c].estimate {
			c++
		}
		if it.estimate <= h[c].estimate {
			break
		}
		h[i] = h[c]
		i = c
	}
	if len(h) > 0 {
		h[i] = it
	}
	return top
}

type search struct {
	g        *Graph
	from, to Spot
	queue    queue
	cost     []float32 // per arc, at its end
	before   []int32   // per arc, the arc driven before it
	best     float64   // cost of arriving
	last     int32     // the arc before the one that is arrived on; goal when there is none
	arrival  int32     // the arc that is arrived on
}

func newSearch(g *Graph, from, to Spot) *search {
	n := 2 * len(g.links)
	s := &search{g: g, from: from, to: to, cost: make([]float32, n), before: make([]int32, n), best: math.Inf(1), last: goal}
	for i := range s.cost {
		s.cost[i] = float32(math.Inf(1))
	}
	for _, arc := range []int32{from.arc, from.arc ^ 1} {
		if !g.allowed(arc) {
			continue
		}
		if start, end := from.on(arc), to.on(arc); to.arc>>1 == arc>>1 && end >= start {
			s.arrive(goal, arc, (end-start)*g.seconds(arc))
		}
		s.reach(arc, goal, (1-from.on(arc))*g.seconds(arc))
	}
	return s
}

// on is the share of an arc, in its own direction, at which the spot lies.
func (s Spot) on(arc int32) float64 {
	if arc&1 == 1 {
		return 1 - s.along
	}
	return s.along
}

func (s *search) reach(arc, before int32, cost float64) {
	if float32(cost) >= s.cost[arc] {
		return
	}
	s.cost[arc], s.before[arc] = float32(cost), before
	rest := Metres(s.g.vertices[s.g.head(arc)], s.to.At) / s.g.fastest
	s.queue.push(item{arc, cost, cost + 0.99*rest}) // the flat earth may be a little too long
}

func (s *search) arrive(before, arc int32, cost float64) {
	if cost < s.best {
		s.best, s.last, s.arrival = cost, before, arc
		s.queue.push(item{goal, cost, cost})
	}
}

func (s *search) expand(it item) {
	for _, next := range s.g.leaving(s.g.head(it.arc)) {
		turn := s.g.turnCost(it.arc, next)
		if next>>1 == s.to.arc>>1 {
			s.arrive(it.arc, next, it.cost+turn+s.to.on(next)*s.g.seconds(next))
		}
		s.reach(next, it.arc, it.cost+turn+s.g.seconds(next))
	}
}

// turnCost is the time that going from one arc to the next costs.
func (g *Graph) turnCost(arc, next int32) float64 {
	if next == arc^1 {
		return backSeconds
	}
	if len(g.leaving(g.head(arc))) <= 2 { // a bend
		return 0
	}
	switch a := turnAngle(g.endBearing(arc), g.startBearing(next)); {
	case a < -45:
		return leftSeconds
	case a > 45:
		return rightSeconds
	}
	return 0
}

// route walks back from the goal.
func (s *search) route() *Route {
	arcs := []int32{s.arrival}
	for arc := s.last; arc != goal; arc = s.before[arc] {
		arcs = append(arcs, arc)
	}
	slices.Reverse(arcs)
	r := &Route{Seconds: s.best, From: s.from, To: s.to, arcs: arcs}
	for i := range arcs {
		r.Metres += s.g.driven(r, i)
	}
	r.Steps = s.g.steps(r)
	return r
}

// driven is how much of the route's i-th arc is driven, in metres.
func (g *Graph) driven(r *Route, i int) float64 {
	arc := r.arcs[i]
	start, end := 0.0, 1.0
	if i == 0 {
		start = r.From.on(arc)
	}
	if i == len(r.arcs)-1 {
		end = r.To.on(arc)
	}
	return max(0, end-start) * float64(g.links[arc>>1].metres)
}

func (g *Graph) startBearing(arc int32) float64 {
	l := &g.links[arc>>1]
	if arc&1 == 1 {
		return float64(l.enter) + 180
	}
	return float64(l.leave)
}

func (g *Graph) endBearing(arc int32) float64 { return g.startBearing(arc^1) + 180 }
