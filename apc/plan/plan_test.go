package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"ninja/ca"
	"ninja/operators"
)

// Hostile numbers never enter a catalogue or a request.
func TestImproperNumbersAreRefused(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), -1} {
		for name, spoil := range map[string]func(*Parts){
			"cpu":   func(p *Parts) { p.Operators[3].Spec.Cost.CPU = bad },
			"price": func(p *Parts) { p.Operators[3].Spec.Cost.Price = bad },
			"qual":  func(p *Parts) { p.Operators[3].Spec.Cost.Quality = bad },
			"load":  func(p *Parts) { p.Nodes[0].Load = bad },
			"cores": func(p *Parts) { p.Nodes[0].Cores = bad },
			"link":  func(p *Parts) { p.Links = []Link{{Price: bad}} },
			"place": func(p *Parts) { p.Operators[3].Places[0].Cost = &operators.Cost{CPU: bad} },
		} {
			p := demoParts()
			spoil(&p)
			if _, err := NewCatalogue(p); err == nil {
				t.Errorf("%s %v was taken", name, bad)
			}
		}
		for _, r := range []Request{{Bounds: Bounds{CPU: bad}}, {Bounds: Bounds{Quality: bad}}, {Weights: Weights{Load: bad}}} {
			r.From, r.To = "phone/microphone", "phone/speaker"
			if _, err := demo(t).Plan(context.Background(), r); err == nil {
				t.Errorf("%+v was taken", r)
			}
		}
	}
}

// Converters that cost nothing and lead in circles, and very many rivals that are equal, neither hang nor lie.
func TestHostileCatalogues(t *testing.T) {
	p := demoParts()
	for i := range 50 {
		for _, m := range []string{"audio/L16;rate=$r;channels=$c", "text/plain;about=$a;lang=$l"} {
			p.Operators = append(p.Operators, op(fmt.Sprint("free", i, m), m, m, 0, 0, 0, proxy1, proxy2))
		}
	}
	const equals = 20000
	for i := range equals {
		p.Operators = append(p.Operators, op(fmt.Sprint("equal", i), "audio/L16;rate=16000;channels=1", "text/plain;about=$a;grammar=$g;lang=en", 250*time.Millisecond, 0.5, 64<<20, proxy1, proxy2))
	}
	c, err := NewCatalogue(p)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := demo(t).Plan(context.Background(), demoRequest())
	if err != nil {
		t.Fatal(err)
	}
	for _, weights := range []Weights{DefaultWeights(), {Latency: 1}, {Price: 1}} {
		q := demoRequest()
		q.Weights = weights
		got, err := c.Plan(context.Background(), q)
		if err != nil || !got.Proven() {
			t.Fatalf("%+v: %v", weights, err)
		}
		if weights == DefaultWeights() && math.Abs(got.Cost-honest.Cost) > 1e-9 {
			t.Errorf("cost %v, want %v", got.Cost, honest.Cost)
		}
	}
	q := demoRequest()
	q.Bounds = Bounds{Latency: 100 * time.Millisecond}
	var no *Refusal
	if _, err := c.Plan(context.Background(), q); !errors.As(err, &no) || no.Reason != NoBounds {
		t.Errorf("refusal: %v", err)
	}
}

// When time runs out, what is said is true: a plan with its gap, or that nothing is known.
func TestBudget(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c, err := NewCatalogue(bigWorld(2000, 200, 3))
	if err != nil {
		t.Fatal(err)
	}
	best, err := c.Plan(context.Background(), demoRequest())
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Plan(ctx, demoRequest())
	switch {
	case err != nil:
		t.Error(err)
	case got.Proven() || got.Bound <= 0:
		t.Errorf("cost %v, bound %v: want a gap", got.Cost, got.Bound)
	case got.Cost < best.Cost-1e-9 || got.Bound > best.Cost+1e-9:
		t.Errorf("cost %v and bound %v, the best is %v", got.Cost, got.Bound, best.Cost)
	}
}

// "The APC facility may cache commonly used logical and physical paths for re-use" (7.2, step 4), and "rebuilding its
// physical or logical path" (figure 11) goes by what was kept.
func TestCacheAndRepair(t *testing.T) {
	ctx, c, q, k := context.Background(), demo(t), demoRequest(), NewCache(0)
	p, err := k.Plan(ctx, "v", c, q)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := k.Plan(ctx, "v", c, q)
	other, _ := k.Plan(ctx, "w", c, q)
	if again != p || other == p {
		t.Error("a view has another's plan, or not its own")
	}
	busier, err := c.With(Change{Nodes: []Node{{ID: proxy1, Load: 1.0, Cores: 2, Memory: 1 << 30}}})
	if err != nil {
		t.Fatal(err)
	}
	if same, _ := k.Plan(ctx, "v", busier, q); same != p {
		t.Error("more load where the plan is not cost it its place in the cache")
	}
	gone, err := busier.With(Change{GoneNodes: []ca.ID{proxy2}})
	if err != nil {
		t.Fatal(err)
	}
	moved, err := k.Plan(ctx, "v", gone, q)
	if err != nil || moved.uses([]ca.ID{proxy2}) || gone.Version() != 3 {
		t.Errorf("a dead node is used: %v", err)
	}
	kept := c.Keep(ctx, q, p)
	if alt := kept.Replan(proxy2); alt == nil || alt.uses([]ca.ID{proxy2}) || !alt.uses([]ca.ID{proxy1}) {
		t.Error("no alternative was kept")
	}
	if kept.Replan(proxy1) != p || kept.Replan(proxy1, proxy2) != nil {
		t.Error("the wrong alternative")
	}
	if got := c.Reprice(q, p); math.Abs(got-p.Cost) > 1e-9 {
		t.Errorf("repriced at %v, cost %v", got, p.Cost)
	}
	if !math.IsInf(gone.Reprice(q, p), 1) {
		t.Error("a plan over a dead node has a price")
	}
	if h := (Hysteresis{Moving: 0.1}); h.Move(1, 0.9) || !h.Move(1.5, 1) || !h.Move(math.Inf(1), 3) {
		t.Error("hysteresis")
	}
}

// Costs learn from many reports, never from one.
func TestLearning(t *testing.T) {
	l := NewCosts(0)
	o := demoParts().Operators[8]
	l.Report(o.Name, proxy1, Sample{P50: time.Hour, P99: time.Hour})
	if got := l.Apply(o); got.Places[0].Cost != nil {
		t.Error("one report moved a cost")
	}
	for range 20 {
		l.Report(o.Name, proxy1, Sample{P50: 100 * time.Millisecond, P99: 400 * time.Millisecond, CPU: 0.7})
	}
	l.Report(o.Name, proxy1, Sample{P50: -1, P99: 1})
	got := l.Apply(o)
	if k := got.Places[0].Cost; k == nil || time.Duration(k.Latency) != 400*time.Millisecond || k.CPU != 0.7 {
		t.Errorf("learned %+v", k)
	}
	if got.Places[1].Cost != nil || o.Places[0].Cost != nil {
		t.Error("what was not learned, or the operator itself, was changed")
	}
	parts := demoParts()
	parts.Operators[8] = got
	c, err := NewCatalogue(parts)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Plan(context.Background(), demoRequest())
	if err != nil || p.Latency < 315*time.Millisecond || p.Steps[3].NodeID != string(proxy2) {
		t.Errorf("the plan does not mind what was learned: %v", err)
	}
}

// A budget that is over at once still leaves a plan within bounds that bind, or says that it is over.
func TestBudgetUnderBounds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c, err := NewCatalogue(bigWorld(1000, 100, 4))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, dims := range [][]int{{resLatency}, {resCPU, resMemory}} {
		q := narrowed(c, demoRequest(), dims)
		best, err := c.Plan(context.Background(), q)
		if err != nil || !best.Proven() {
			t.Fatal(err)
		}
		got, err := c.Plan(ctx, q)
		switch {
		case errors.Is(err, ErrBudget):
		case err != nil:
			t.Error(err)
		case got.Cost < best.Cost-1e-9 || got.Bound > best.Cost+1e-9 || math.IsInf(c.Reprice(q, got), 1):
			t.Errorf("cost %v, bound %v, the best is %v", got.Cost, got.Bound, best.Cost)
		default:
			found++
		}
	}
	if found == 0 {
		t.Error("no plan was found once the time was over")
	}
}

func FuzzParseForm(f *testing.F) {
	for _, s := range []string{
		"phone:lobby ! ?map-directions ! phone:lobby latency<500ms cpu<2 quality>0.5", "a ! b & ?c ! d ! e memory<1.5G price<3 steps<4",
		"a!b domain=x domain=y weight:load=0", "a ! ", "!", "a ! b latency<", "a ! ?? ! b", "a!b memory<99999999999T",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		form, err := ParseForm(s)
		if err != nil {
			return
		}
		r := Request{From: form.From.Text, To: form.To.Text, Bounds: form.Bounds, Weights: form.Weights, Steps: form.Steps}
		for _, x := range form.Include {
			r.Include = append(r.Include, Requirement{Label: x.String(), Any: []string{x.Text}, After: x.After})
		}
		if err := r.Check(); err != nil {
			t.Errorf("%q makes a request that is refused: %v", s, err)
		}
	})
}

// Eight required operators in any order, between two telephones and a map, over nodes in several regions.
func TestEightRequiredInAnyOrder(t *testing.T) {
	p := demoParts()
	for i := range p.Nodes {
		p.Nodes[i].Memory, p.Nodes[i].Cores = 0, 0
	}
	q := demoRequest()
	p.Transports = Transports()
	for i := range MaxRequired - 1 {
		id := ca.ID(fmt.Sprint("spiffe://example.org/proxy/f", i))
		p.Nodes = append(p.Nodes, Node{ID: id, Region: fmt.Sprint("r", i%3)})
		name := fmt.Sprint("filter", i)
		o := op(name, "text/plain;about=$a;lang=$l", "text/plain;about=$a;lang=$l", time.Duration(i)*time.Millisecond, 0.01, 1<<20, id)
		p.Operators = append(p.Operators, o)
		q.Include = append(q.Include, Requirement{Label: name, Any: []string{name}})
	}
	c, err := NewCatalogue(p)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	got, err := c.Plan(context.Background(), q)
	took := time.Since(start)
	if err != nil || !got.Proven() {
		t.Fatal(err)
	}
	met := map[int]bool{}
	for _, s := range got.Steps {
		met[s.Requirement] = true
	}
	if len(met) != MaxRequired+1 {
		t.Errorf("met %v", met)
	}
	if want := joint(newBrute(p, q)); math.Abs(want-got.Cost) > 1e-9 {
		t.Errorf("cost %v, joint search %v", got.Cost, want)
	}
	t.Logf("%v, %d chains, %d steps", took, got.Examined, len(got.Steps))
}

// One catalogue serves many askers at once, gives each the same plan, and does not mind the order of its parts.
func TestConcurrentAndDeterministic(t *testing.T) {
	c := demo(t)
	first, err := c.Plan(context.Background(), demoRequest())
	if err != nil {
		t.Fatal(err)
	}
	plans := make(chan *Plan)
	for i := range 8 {
		go func() {
			q := demoRequest()
			if i%2 == 0 {
				q.Bounds.Latency = time.Second
			}
			p, err := c.Plan(context.Background(), q)
			if err != nil {
				t.Error(err)
			}
			plans <- p
		}()
	}
	for range 8 {
		if p := <-plans; p == nil || p.key() != first.key() {
			t.Errorf("another plan: %v", p)
		}
	}
	parts := demoParts()
	slices.Reverse(parts.Operators)
	slices.Reverse(parts.Nodes)
	turned, err := NewCatalogue(parts)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := turned.Plan(context.Background(), demoRequest()); err != nil || p.Text() != first.Text() {
		t.Errorf("parts in another order make another plan (%v)", err)
	}
}

// What several proxies publish alike is one operator.
func TestGather(t *testing.T) {
	whole := demoParts()
	apart := whole
	apart.Operators = nil
	for _, o := range whole.Operators {
		for i, p := range o.Places {
			one := o
			one.Places = []Place{p}
			if i > 0 {
				one.Name += fmt.Sprint("@", i)
			}
			apart.Operators = append(apart.Operators, one)
		}
	}
	got := Gather(apart.Operators)
	if len(got) != len(whole.Operators) {
		t.Fatalf("%d operators, want %d", len(got), len(whole.Operators))
	}
	apart.Operators = got
	c, err := NewCatalogue(apart)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Plan(context.Background(), demoRequest())
	want, _ := demo(t).Plan(context.Background(), demoRequest())
	if err != nil || p.Text() != want.Text() {
		t.Errorf("another plan: %v", err)
	}
}
