package apc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/operators/host"
	"ninja/sds"
)

// randomThing is one of few, so that things are replaced and come back.
func randomThing(random *rand.Rand, version uint64) *thing {
	n, in, out := random.IntN(3), random.IntN(3), random.IntN(3)
	at := &operators.Node{Control: "c", Cores: float64(random.IntN(3)), Region: []string{"eu", "us"}[random.IntN(2)]}
	s := spec(fmt.Sprint("x", in), fmt.Sprint("text/t", in), fmt.Sprint("text/t", out))
	s.Cost.Latency = operators.Latency(random.IntN(3)) * operators.Latency(time.Millisecond)
	owner, d := ca.ID(fmt.Sprint(dom, "proxy/p", n)), &operators.Description{Kind: operators.KindProxy, Name: "proxy", Node: at}
	switch random.IntN(5) {
	case 0, 1:
		d = &operators.Description{Kind: operators.KindOperator, Name: "operator." + s.Name, Node: at, Operators: []operators.Spec{s}}
	case 2:
		owner = ca.ID(fmt.Sprint(dom, "base/b", n))
		d = &operators.Description{Kind: "oracle", Name: "o", Node: at, Operators: []operators.Spec{s}}
		if random.IntN(3) == 0 {
			d.Data = []operators.Data{{Name: "g", SHA256: fmt.Sprintf("%064x", in), Size: 1}}
		}
	case 3: // a stranger that says it is a proxy
		owner = dom + "user/eve"
	}
	numbers := map[string]float64{"load": random.Float64(), rttNumber + "us": random.Float64() / 10}
	return &thing{sds.Found{ID: string(owner) + "#" + d.Name, Owner: owner, Name: d.Name, Version: version, Numbers: numbers}, d}
}

// A catalogue that was brought up to date is the one that would be made of what there is.
func TestACatalogueFollowsItsView(t *testing.T) {
	const seed = 3
	random := rand.New(rand.NewPCG(seed, seed))
	compared, kept := 0, 0
	for range 40 * proveScale() {
		v, costs := newView(nil), newLearned()
		v.costs = costs.cost
		v.put(&thing{sds.Found{ID: dom + "unit/u#u", Owner: dom + "unit/u"}, &operators.Description{Kind: "phone", Name: "u", Node: &operators.Node{Control: "c"},
			Operators: []operators.Spec{spec("microphone", "", "text/t0"), spec("speaker", "text/t2", "")}}})
		named := map[string]bool{dom + "unit/u#u": true, dom + "base/b0#o": true}
		var last *plan.Catalogue
		for n := range 60 {
			thing := randomThing(random, uint64(n))
			switch random.IntN(6) {
			case 0:
				v.drop(thing.ID)
			case 1:
				v.numbers(thing.ID, thing.Numbers)
				v.measure()
			case 2:
				for name := range v.groups {
					costs.report(name, thing.Owner, host.StageStats{Process: 1e6, ProcessP99: time.Duration(1 + random.IntN(5e7)), CPU: 0.1}, operators.Cost{})
				}
			default:
				v.put(thing)
			}
			if random.IntN(3) != 0 {
				continue
			}
			v.absorb(costs)
			c, err := v.catalogue(named)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if compared++; c == last {
				kept++
			}
			last = c
			same(t, v, c, named)
		}
	}
	t.Logf("seed %d: %d catalogues compared, %d of them the same value as before", seed, compared, kept)
}

// same compares a catalogue with one made anew, part by part and by a plan.
func same(t *testing.T, v *view, c *plan.Catalogue, named map[string]bool) {
	t.Helper()
	parts := v.parts(named)
	if len(parts.Nodes) != c.Nodes() || len(parts.Operators) != c.Operators() {
		t.Fatalf("%d nodes, %d operators; want %d, %d", c.Nodes(), c.Operators(), len(parts.Nodes), len(parts.Operators))
	}
	for _, n := range parts.Nodes {
		if got, _ := c.Node(n.ID); !reflect.DeepEqual(got, n) {
			t.Fatalf("node %+v, want %+v", got, n)
		}
	}
	for _, o := range parts.Operators {
		if got, _ := c.Operator(o.Name); !reflect.DeepEqual(got, o) {
			t.Fatalf("operator %+v, want %+v", got, o)
		}
	}
	fresh, err := plan.NewCatalogue(parts)
	if err != nil {
		t.Fatal(err)
	}
	r := plan.Request{From: dom + "unit/u#u/microphone", To: dom + "unit/u#u/speaker"}
	a, errA := c.Plan(context.Background(), r)
	b, errB := fresh.Plan(context.Background(), r)
	if (errA == nil) != (errB == nil) || errA == nil && a.Cost != b.Cost {
		t.Fatalf("%v, %v and %v, %v", a, errA, b, errB)
	}
}

// Whatever is published of itself by anyone does not keep others from planning.
func TestHostileNumbers(t *testing.T) {
	v := newView(nil)
	nan := 0.0
	nan /= nan
	for i, load := range []float64{nan, -1, 1e300, 1 / (nan - nan)} {
		id := ca.ID(fmt.Sprint(dom, "proxy/p", i))
		v.put(&thing{sds.Found{ID: string(id) + "#p", Owner: id, Numbers: map[string]float64{"load": load, "rtt.": load, "rtt.eu": 1e9}},
			&operators.Description{Kind: operators.KindProxy, Name: "p", Node: &operators.Node{Cores: load, Memory: -1}}})
	}
	v.measure()
	if _, err := v.catalogue(nil); err != nil {
		t.Error(err)
	}
}

// What nodes measure is processing; what an operator waits for by its nature stays as described. A recogniser that waits
// 600 ms for the end of a sentence does so on the fastest node too.
func TestEstimates(t *testing.T) {
	ms := func(n float64) *operators.Cost {
		return &operators.Cost{Latency: operators.Latency(n * float64(time.Millisecond))}
	}
	for _, tc := range []struct {
		described float64
		measured  []float64 // negative: nothing
		want      []float64
	}{
		{600, []float64{6, 40, -1}, []float64{600, 634, -1}},
		{1, []float64{400}, []float64{400}},
		{1, []float64{400, 50}, []float64{400, 50}},
		{25, []float64{0.1, 0.1}, []float64{25, 25}},
		{25, []float64{-1}, []float64{-1}},
	} {
		o := plan.Operator{Spec: operators.Spec{Cost: *ms(tc.described)}}
		for _, m := range tc.measured {
			p := plan.Place{}
			if m >= 0 {
				p.Cost = ms(m)
			}
			o.Places = append(o.Places, p)
		}
		estimate(&o)
		for i, p := range o.Places {
			if got := p.Cost; (got == nil) != (tc.want[i] < 0) || got != nil && got.Latency != ms(tc.want[i]).Latency {
				t.Errorf("%+v: place %d is expected to take %v", tc, i, got)
			}
		}
	}
}

// Links are the median of what proxies measured, halved; they stay while they move by little.
func TestLinks(t *testing.T) {
	v := newView(nil)
	put := func(name, region string, n map[string]float64) {
		id := ca.ID(dom + "proxy/" + name)
		v.put(&thing{sds.Found{ID: string(id) + "#p", Owner: id, Numbers: n}, &operators.Description{Kind: operators.KindProxy, Name: "p", Node: &operators.Node{Region: region}}})
		v.measure()
	}
	put("a", "eu", map[string]float64{"rtt.us": 0.1, "rtt.eu": 0.002})
	put("b", "us", map[string]float64{"rtt.eu": 0.14})
	put("c", "us", map[string]float64{"rtt.eu": 30}) // one that lies, or has a bad line
	if got := v.links[[2]string{"eu", "us"}].Latency; got != 70*time.Millisecond {
		t.Errorf("eu to us: %v", got)
	}
	if got := v.links[[2]string{"eu", "eu"}].Latency; got != time.Millisecond {
		t.Errorf("within eu: %v", got)
	}
	shape := v.shape
	put("b", "us", map[string]float64{"rtt.eu": 0.15})
	if v.shape != shape {
		t.Error("a link that moved by little made a new catalogue")
	}
	for _, name := range []string{"a", "b", "c"} {
		v.drop(dom + "proxy/" + name + "#p")
	}
	if v.measure(); len(v.links) != 0 {
		t.Errorf("%v without proxies", v.links)
	}
}

// Requests are checked when posted; the error names the word.
func TestWords(t *testing.T) {
	for _, tc := range []struct{ line, text string }{
		{"phone ! ?oracle ! phone:lobby", `"phone": want KIND:NAME`},
		{"phone:lobby ! oracle ! phone:lobby", "?oracle finds one of the kind"},
		{"phone:lobby ! : ! phone:lobby", `":": want KIND:NAME`},
		{"phone:lobby ! ?a#b ! phone:lobby", `"?a#b": ? finds a kind`},
		{"phone:lobby ! nobody#b ! phone:lobby", `"nobody#b": before # stands the owner`},
		{"phone:" + strings.Repeat("x", maxWord) + " ! phone:lobby", "at most 512 are allowed"},
		{"phone:lobby ! phone:lobby latency<fast", `"latency<fast"`},
		{"phone:lobby ! phone:lobby speed<3", `"speed<3"`},
		{"phone:lobby ! ?@1 ! phone:lobby", `"?@1": 0 templates came`},
		{"rtp://phone.example:5004/audio/PCMU ! phone:lobby", "want an IP address with a port, no name"},
		{"rtp://10.0.0.7/audio/PCMU ! phone:lobby", "want an IP address with a port"},
		{"rtp://10.0.0.7:0/audio/PCMU ! phone:lobby", "not the address of one host and port"},
		{"rtp://239.1.2.3:5004/audio/PCMU ! phone:lobby", "not the address of one host and port"},
		{"rtp://[::ffff:10.0.0.7]:5004/audio/PCMU ! phone:lobby", "not the address of one host and port"},
		{"rtp://10.0.0.7:5004 ! phone:lobby", "want what is spoken there behind the address, as in rtp://10.0.0.7:5004/audio/PCMU"},
		{"phone:lobby ! rtp://10.0.0.7:5004/text/plain", "rtp carries audio/L16"},
		{"phone:lobby ! http://10.0.0.7:80/audio/PCMU", `scheme "http"`},
		{"phone:lobby ! ?rtp://10.0.0.7:5004/audio/PCMU ! phone:lobby", "an address is written without it"},
		{"phone:lobby ! rtp://10.0.0.7:5004/audio/PCMU ! phone:lobby", "an address is an endpoint"},
	} {
		r := Request{Line: tc.line}
		if _, _, err := r.check(); !errors.Is(err, ErrBadRequest) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%.80s: %v, want %q", tc.line, err, tc.text)
		}
	}
	bad := Request{Line: "phone:a ! phone:b", Position: &operators.Position{Lat: 91}}
	if _, _, err := bad.check(); !errors.Is(err, ErrBadRequest) {
		t.Error(err)
	}
}

// A word means a kind, a name or an id, and may pick one operator.
func TestPick(t *testing.T) {
	two := []plan.Operator{{Spec: operators.Spec{Name: "microphone"}}, {Spec: operators.Spec{Name: "speaker"}}}
	offers := []offer{
		{service: dom + "unit/a#lobby", kind: "phone", operators: two},
		{service: dom + "unit/b#lobby/2", kind: "phone", operators: two},
		{service: dom + "base/c#lobby", kind: "oracle", operators: two},
	}
	for text, want := range map[string]string{
		"?phone": "2 things, 4 operators", "phone:lobby": "1 things, 2 operators", "phone:lobby/2": "1 things, 2 operators",
		"phone:lobby/speaker": "1 things, 1 operators", "phone:lobby/2/speaker": "1 things, 1 operators", "phone:lobby/bell": "0 things, 0 operators",
		dom + "base/c#lobby": "1 things, 2 operators", dom + "base/c#lobby/speaker": "1 things, 1 operators", "?printer": "0 things, 0 operators",
		dom + "unit/a#attic": "0 things, 0 operators",
	} {
		form, err := plan.ParseForm(text + " ! phone:x")
		if err != nil {
			t.Fatal(err)
		}
		w, err := readWord(form.From, nil)
		if err != nil {
			t.Fatal(err)
		}
		things, all := w.pick(offers), 0
		for _, o := range things {
			all += len(o.operators)
		}
		if got := fmt.Sprintf("%d things, %d operators", len(things), all); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// FuzzFormLine: what is written is read as what it was.
func FuzzFormLine(f *testing.F) {
	f.Add("rtp://10.0.0.7:5004/audio/L16;rate=16000;channels=1 ! ?map-directions ! rtp://[2001:db8::7]:5004/audio/PCMU;rate=8000 latency<2s")
	f.Add("phone:lobby ! ?map-directions & ?b ! c:d ! phone:lobby latency<2s cpu<0.5 memory<200M price<1 quality>0.5 steps<5 domain=a domain=b weight:latency=2")
	f.Fuzz(func(t *testing.T, s string) {
		form, err := plan.ParseForm(s)
		if err != nil {
			return
		}
		words, err := readWords(form, nil) // what it means is checked when posted; it must not fall over anything
		for i := range words {
			if r := words[i].raw; err == nil && r != nil && (!r.at.IsValid() || r.of.IsZero()) {
				t.Errorf("%q is no address: %+v", words[i].Text, r)
			}
		}
		line := formLine(form)
		again, err := plan.ParseForm(line)
		if len(line) > plan.MaxForm {
			return
		}
		if err != nil || !reflect.DeepEqual(form, again) {
			t.Errorf("%q\n%q: %v\n%+v\n%+v", s, line, err, form, again)
		}
	})
}
