package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
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
	for i := len(p.Operators); i < ops-2*benchEnds; i++ {
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
	for i := range benchEnds {
		source := op(fmt.Sprint("source", i), "", fmt.Sprintf("text/m%d;about=v%d", r.IntN(media), r.IntN(20)), 0, 0, 0, p.Nodes[r.IntN(len(p.Nodes))].ID)
		sink := op(fmt.Sprint("sink", i), fmt.Sprintf("text/m%d;about=$a", r.IntN(media)), "", 0, 0, 0, p.Nodes[r.IntN(len(p.Nodes))].ID)
		source.Fixed, sink.Fixed = true, true
		p.Operators = append(p.Operators, source, sink)
	}
	return p
}

// benchEnds is how many more pairs of endpoints a world has, beside the demo's.
const benchEnds = 3

// bigRequests are several requests of such a world: the demo's; the same with two more wanted in any order; between other
// endpoints, freely and by way of one of some operators. Not each of them has a plan.
func bigRequests(p Parts, seed uint64) []Request {
	r := rand.New(rand.NewPCG(seed, 3))
	some := func() (names []string) {
		for range 8 {
			names = append(names, fmt.Sprint("op", 20+r.IntN(len(p.Operators)-20-2*benchEnds)))
		}
		return names
	}
	more := demoRequest()
	more.Include = append(more.Include, Requirement{Label: "?voice", Any: []string{"text-to-speech"}}, Requirement{Label: "?hearing", Any: []string{"speech-to-text"}})
	out := []Request{demoRequest(), more}
	for i := range benchEnds {
		q := Request{From: fmt.Sprint("source", i), To: fmt.Sprint("sink", i)}
		if i > 0 {
			q.Include = []Requirement{{Label: "?some", Any: some()}}
		}
		out = append(out, q)
	}
	return out
}
