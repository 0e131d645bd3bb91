package plan

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"ninja/ca"
	"ninja/operators"
)

// A telephone that runs nothing of ours is an end of a path by its address and type.
func TestRawEndpoints(t *testing.T) {
	c := demo(t)
	q := demoRequest()
	q.From, q.To = "", ""
	pcmu := operators.MustPattern("audio/PCMU;rate=8000;channels=1")
	q.Source = &Endpoint{Name: "rtp://192.0.2.7:4000", Type: pcmu, Transports: []string{"rtp"}, Near: proxy1}
	q.Sink = &Endpoint{Name: "rtp://192.0.2.7:4002", Type: pcmu, Transports: []string{"rtp"}, Near: proxy1}
	q.Bounds.Domains = []string{"example.org"}
	p, err := c.Plan(context.Background(), q)
	if err != nil || !p.Proven() {
		t.Fatal(err)
	}
	last := len(p.Steps) - 1
	if p.Steps[0].Name != q.Source.Name || p.Steps[last].NodeID != q.Sink.Name || p.Hops[0].Transport != "rtp" || p.Hops[last-1].Transport != "rtp" {
		t.Errorf("not between the addresses:\n%s", p.Text())
	}
	if got := c.Reprice(q, p); math.Abs(got-p.Cost) > 1e-9 {
		t.Errorf("repriced at %v, cost %v", got, p.Cost)
	}
	if e := c.Explain(context.Background(), q, p, 0); len(e.Rivals) == 0 {
		t.Error("no rivals")
	}
	for name, spoil := range map[string]func(*Request){
		"two names":    func(q *Request) { q.From = "phone/microphone" },
		"one name":     func(q *Request) { q.Sink = q.Source },
		"an operator":  func(q *Request) { q.Source = &Endpoint{Name: "resample", Type: pcmu} },
		"a node":       func(q *Request) { q.Source = &Endpoint{Name: string(proxy1), Type: pcmu} },
		"no type":      func(q *Request) { q.Source = &Endpoint{Name: "x"} },
		"no name":      func(q *Request) { q.Source = &Endpoint{Type: pcmu} },
		"wrong type":   func(q *Request) { q.Sink = &Endpoint{Name: "x", Type: operators.MustPattern("video/H264;rate=1")} },
		"no transport": func(q *Request) { q.Sink = &Endpoint{Name: "x", Type: pcmu, Transports: []string{"mem"}} },
	} {
		bad := q
		spoil(&bad)
		var no *Refusal
		if _, err := c.Plan(context.Background(), bad); !errors.As(err, &no) {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Log(name, ":", no)
		}
	}
}

// An endpoint outside the catalogue means what the same operator within it would mean.
func TestRawEndpointsEqualOperators(t *testing.T) {
	for seed := range uint64(100 * scale()) {
		r := rand.New(rand.NewPCG(seed, 5))
		parts, q := randomInstance(r)
		inside := parts
		at := func(i int, id ca.ID) Endpoint {
			o := &inside.Operators[i]
			region := inside.Nodes[r.IntN(len(parts.Nodes))].Region
			e := Endpoint{Name: string(id), Region: region, Type: o.Spec.Out, Transports: pick(r, nil, []string{"tcp"}, []string{"rtp", "mem"})}
			o.Spec.Cost, o.Data, o.Fixed, o.Places = operators.Cost{}, nil, true, []Place{{Node: id}}
			if i > 0 {
				e.Type = o.Spec.In
			}
			o.Spec.Transports = e.Transports
			inside.Nodes = append(inside.Nodes, Node{ID: id, Region: region, Transports: e.Transports})
			return e
		}
		inside.Operators = append([]Operator(nil), parts.Operators...)
		inside.Nodes = append([]Node(nil), parts.Nodes...)
		end := 0
		for i := range inside.Operators {
			if inside.Operators[i].Name == "to" {
				end = i
			}
		}
		source, sink := at(0, "spiffe://d1/unit/a"), at(end, "spiffe://d1/unit/b")
		c, err := NewCatalogue(inside)
		if err != nil {
			t.Fatal(err)
		}
		want, wantErr := c.Plan(context.Background(), q)
		parts.Operators = append([]Operator(nil), parts.Operators[1:]...)
		for i := range parts.Operators {
			if parts.Operators[i].Name == "to" {
				parts.Operators = append(parts.Operators[:i:i], parts.Operators[i+1:]...)
				break
			}
		}
		if c, err = NewCatalogue(parts); err != nil {
			t.Fatal(err)
		}
		raw := q
		raw.From, raw.To, raw.Source, raw.Sink = "", "", &source, &sink
		got, gotErr := c.Plan(context.Background(), raw)
		if (wantErr == nil) != (gotErr == nil) || wantErr == nil && math.Abs(got.Cost-want.Cost) > 1e-9 {
			t.Errorf("seed %d: %v (%v), as operators %v (%v)", seed, got, gotErr, want, wantErr)
		}
	}
}

// A running path moves when that pays, and what stays is said.
func TestMove(t *testing.T) {
	ctx, c, q := context.Background(), demo(t), demoRequest()
	p, err := c.Plan(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Move(ctx, q, p, Hysteresis{})
	if err != nil || m.Move || m.Gain != 0 || len(m.Ends) > 0 || m.Why != "the running plan is still the best" {
		t.Errorf("nothing has changed: %+v, %v", m, err)
	}
	busy, err := c.With(Change{Nodes: []Node{{ID: proxy2, Load: 1.2, Cores: 2, Memory: 1 << 30}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err = busy.Move(ctx, q, p, Hysteresis{Share: 0.01})
	if err != nil || !m.Move || m.Gain <= 0 {
		t.Fatalf("a path stays on a busy node: %+v, %v", m, err)
	}
	last := len(m.To.Steps) - 1
	if m.Stays[0] != 0 || m.Stays[last] != len(p.Steps)-1 || len(m.Ends) == 0 {
		t.Errorf("the ends do not stay, or nothing ends: %+v", m)
	}
	for i, at := range m.Stays {
		if at >= 0 && (p.Steps[at].Name != m.To.Steps[i].Name || p.Steps[at].NodeID != m.To.Steps[i].NodeID) {
			t.Errorf("step %d stays as what it is not", i)
		}
	}
	if m, err = busy.Move(ctx, q, p, Hysteresis{Stage: 0.3, Share: 0.01}); err != nil || m.Move || m.Cost < 0.3 {
		t.Errorf("a move that costs more than it gains: %+v, %v", m, err)
	}
	// The load is the path's own.
	own := 0.0
	for _, s := range p.Steps {
		if s.NodeID == string(proxy2) {
			own += s.CPU
		}
	}
	loaded, err := c.With(Change{Nodes: []Node{{ID: proxy2, Load: 0.1 + own, Cores: 2, Memory: 1 << 30}}})
	if err != nil {
		t.Fatal(err)
	}
	if m, err = loaded.Move(ctx, q, p, Hysteresis{Share: 1e-6, Counted: true}); err != nil || m.Move {
		t.Errorf("a path flees from its own load: %+v, %v", m, err)
	}
	gone, err := c.With(Change{GoneNodes: []ca.ID{proxy2}})
	if err != nil {
		t.Fatal(err)
	}
	if m, err = gone.Move(ctx, q, p, Hysteresis{Moving: 1e6}); err != nil || !m.Move || !m.Broken || m.To == nil {
		t.Errorf("a path stays on a dead node: %+v, %v", m, err)
	}
	q.Bounds.Latency = time.Millisecond
	if m, err = c.Move(ctx, q, p, Hysteresis{}); err != nil || m.Move || !m.Broken || m.Refused == nil {
		t.Errorf("no plan is there: %+v, %v", m, err)
	}
}
