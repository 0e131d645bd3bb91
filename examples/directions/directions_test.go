package directions

import (
	"bytes"
	"context"
	"io"
	"math"
	"strings"
	"testing"

	"ninja/connectors"
	"ninja/examples/directions/pbf/pbftest"
	"ninja/examples/directions/roads"
	"ninja/examples/directions/spoken/jsgftest"
	"ninja/operators"
)

func say(a *Answer) string { return strings.Join(a.Say, "\n") }

func TestAnswersOfTheTown(t *testing.T) {
	s := townService(t)
	for _, c := range []struct {
		heard  string
		status Status
		say    string
	}{
		{"twelve elm avenue", Found, "Directions to twelve Elm Avenue, Bear.\n" + // the dual road is one turn
			"Head south on Oak Street for two tenths of a mile.\n" +
			"Turn right onto Elm Avenue for three tenths of a mile.\n" +
			"You have arrived: twelve Elm Avenue is on your right."},
		{"seven mill road", Found, "Directions to seven Mill Road, Saint Georges.\n" +
			"Head south on Oak Street for four tenths of a mile.\n" +
			"At the roundabout, take the second exit onto Mill Road for two tenths of a mile.\n" +
			"You have arrived: seven Mill Road is on your left."},
		{"six oh five main street in bear", Found, "Directions to six oh five Main Street, Bear.\n" +
			"Head south on Oak Street for four tenths of a mile.\n" +
			"At the roundabout, take the first exit to stay on Oak Street for seven hundred feet.\n" +
			"Turn right onto Main Street for four tenths of a mile.\n" +
			"You have arrived: six oh five Main Street is on your right."},
		{"nine nine nine nine main street", Unknown, "I don't know that address: nine nine nine nine Main Street."},
		{"five main street", Unknown, "I don't know that address: five Main Street."}, // 5B is not 5
		{"six fifteen elsewhere road", Unknown, "I don't know that address: six one five Elsewhere Road."},
		{"mumble", Unheard, "I did not understand that.\nPlease say a house number and a street, as in: twelve Elm Avenue."},
		{"", Unheard, "I did not understand that.\nPlease say a house number and a street, as in: twelve Elm Avenue."},
		{"one hundred main street", Ambiguous, "One hundred Main Street.\nWhich city: Bear or Saint Georges?"},
	} {
		a := s.Talk(nil).Answer(context.Background(), c.heard)
		if a.Status != c.status || say(a) != c.say {
			t.Errorf("%q: %s\n%s\nwant %s\n%s", c.heard, a.Status, say(a), c.status, c.say)
		}
	}
}

func TestWhichCityIsAnswered(t *testing.T) {
	talk := townService(t).Talk(at(8, 7))
	ask := func(heard string) *Answer { return talk.Answer(context.Background(), heard) }
	if a := ask("saint georges"); a.Status != Unheard {
		t.Errorf("a city before any question: %s", a.Line())
	}
	ask("one hundred main street")
	if a := ask("mumble"); a.Status != Unheard {
		t.Errorf("%s", a.Line())
	}
	if a := ask("in saint georges"); a.Status != Found || a.Addresses[0].City != "Saint Georges" {
		t.Errorf("%s", a.Line())
	}
	if a := ask("bear"); a.Status != Unheard {
		t.Errorf("a city after the question was answered: %s", a.Line())
	}
}

func TestSameAddress(t *testing.T) {
	s := townService(t)
	for said, same := range map[string]bool{"six fifteen south main street": true, "six one five south main street": true,
		"six hundred fifteen south main street in bear": true, "six fifteen south main street bear": true,
		"six sixteen south main street": false, "six fifteen main street": false, "six fifteen south main street in newark": false} {
		b, err := s.Talk(nil).Answer(context.Background(), "six fifteen south main street").Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if SameAddress(said, b) != same {
			t.Errorf("%q: want %v of %s", said, same, b)
		}
	}
	b, _ := s.Talk(nil).Answer(context.Background(), "four main street").Marshal()
	if !SameAddress("four main street", b) || SameAddress("four main street", []byte("<nonsense")) {
		t.Error("an unknown address is spoken of as well")
	}
}

func TestAnswersAreReadBackAndAttributed(t *testing.T) {
	a := townService(t).Talk(nil).Answer(context.Background(), "7 Mill Rd, St. Georges")
	b, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseAnswer(b)
	if err != nil || back.Text() != a.Text() || len(back.Route.Steps) != 3 || !back.Addresses[0].Inferred {
		t.Errorf("%v\n%s", err, b)
	}
	if !strings.Contains(string(b), "OpenStreetMap contributors") || strings.Contains(say(a), "OpenStreetMap") {
		t.Errorf("the attribution belongs in the structure and not in the speech: %s", b)
	}
}

func TestHostileUtterances(t *testing.T) {
	s := townService(t)
	for _, heard := range []string{strings.Repeat("nine ", 10000), "\x00\xff<say>", strings.Repeat("a", 5000), "1 2 3 4 5 6 7 8 9", ",", "in", "and and"} {
		a := s.Talk(nil).Answer(context.Background(), heard)
		b, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseAnswer(b); err != nil || len(a.Heard) > maxHeard {
			t.Errorf("%.20q: %v", heard, err)
		}
	}
}

func TestDescriptionAndOperator(t *testing.T) {
	s := townService(t)
	d := s.Description("map")
	d.Node = &operators.Node{Control: "127.0.0.1:1", Data: "127.0.0.1:2"}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := operators.ParseDescription(b)
	if err != nil {
		t.Fatal(err)
	}
	if ref, ok := operators.ParseRef(back.Operators[0].In.Param("grammar")); !ok || ref != s.Data()[0].Ref || back.Data[0].SHA256 != ref.SHA256 {
		t.Errorf("the input type refers to %v, the data is %v", ref, back.Data)
	}
	var notes []string
	op, err := s.Factory()(context.Background(), operators.Env{Note: func(kind, text string) { notes = append(notes, kind+": "+text) }})
	if err != nil {
		t.Fatal(err)
	}
	hop := &pipe{in: []string{"one hundred main street", "bear"}}
	if err := op.Run(context.Background(), hop, hop); err != nil {
		t.Fatal(err)
	}
	if len(hop.out) != 2 || hop.out[1].Mark != connectors.EndOfDocument ||
		!strings.HasPrefix(strings.Join(notes, "; "), "answer: ambiguous: 100 Main Street, Bear or 100 Main Street, Saint Georges; answer: found: 100 Main Street, Bear, ") {
		t.Errorf("%v", notes)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, cfg := range []Config{{}, {Service: "x"}, {Service: "x", Map: "/nowhere.osm.pbf"}, {Service: "x", Map: "directions_test.go"}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	if _, err := LoadMap(bytes.NewReader(pbftest.File(pbftest.Form{}, nil, nil, nil))); err == nil {
		t.Error("a map without roads was accepted")
	}
}

// Every address that is drawn can be spoken within the grammar, is understood, found, and led to.
func TestDelaware(t *testing.T) {
	s := delaware(t)
	g := s.Map().Addresses
	v, l, a := s.Map().Roads.Stats()
	t.Logf("%d addresses on %d streets in %d cities, %d skipped; %d vertices, %d links, %d arcs; grammar of %d bytes",
		g.Len(), len(g.Streets()), len(g.Cities()), s.Map().Skipped, v, l, a, len(s.Data()[0].Bytes))
	if g.Len() < 1200 || len(g.Streets()) < 300 {
		t.Error("addresses are missing")
	}
	grammar := jsgftest.Parse(string(s.Data()[0].Bytes))
	for _, x := range g.Sample(1, 100) {
		if !grammar.Accepts(x.Text) || !grammar.Accepts(x.Text+" in newark") {
			t.Errorf("the grammar refuses %q", x.Text)
		}
	}
	for _, x := range g.Sample(2, 8) {
		a := s.Talk(nil).Answer(context.Background(), x.Text)
		b, err := a.Marshal()
		if err != nil || a.Status != Found || a.Addresses[0].Number != x.Address.Number || !SameAddress(x.Text, b) {
			t.Errorf("%q: %v %s", x.Text, err, a.Line())
			continue
		}
		if a.Route == nil {
			t.Errorf("%q: %s", x.Text, say(a))
			continue
		}
		sum := 0
		for _, step := range a.Route.Steps {
			sum += step.Metres
		}
		if math.Abs(float64(sum-a.Route.Metres)) > float64(len(a.Route.Steps)) {
			t.Errorf("%q: the steps are %d m, the route %d", x.Text, sum, a.Route.Metres)
		}
	}
	first, again := g.Sample(3, 20), g.Sample(3, 20)
	if len(first) != 20 || first[7].Text != again[7].Text {
		t.Error("a seed draws the same addresses")
	}
}

func TestDistancesAsAPersonSpeaks(t *testing.T) {
	for metres, want := range map[float64]string{3: "ten feet", 16: "fifty feet", 46: "one hundred fifty feet", 122: "four hundred feet", 200: "seven hundred feet",
		322: "two tenths of a mile", 402: "a quarter mile", 805: "half a mile", 1207: "three quarters of a mile", 1448: "nine tenths of a mile",
		1609: "one mile", 2414: "one and a half miles", 2815: "one and three quarters miles", 6437: "four miles", 8851: "five and a half miles", 33796: "twenty one miles"} {
		if got := sayDistance(metres); got != want {
			t.Errorf("%v m: %q, want %q", metres, got, want)
		}
	}
}

func TestSpokenRefs(t *testing.T) {
	for ref, want := range map[string]string{"US 40": "U S forty", "I 95": "Interstate ninety five", "DE 1": "Route one", "4A": "four A",
		"I 95 North": "Interstate ninety five North", "New Jersey": "New Jersey"} {
		if got := sayRef(ref); got != want {
			t.Errorf("%q: %q, want %q", ref, got, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	s := townService(f)
	for _, h := range []string{"one hundred main street", "in bear", "615 S Main St, Bear", "six oh five"} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, heard string) {
		b, err := s.Talk(nil).Answer(context.Background(), heard).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseAnswer(b); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	file, err := delawareBytes()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := LoadMap(bytes.NewReader(file)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnderstand(b *testing.B) {
	g := delaware(b).Map().Addresses
	said := g.Sample(1, 64)
	for i := 0; b.Loop(); i++ {
		if len(g.Read(said[i%64].Text)) == 0 {
			b.Fatal("not understood")
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	s := delaware(b)
	to := s.Map().Addresses.Sample(1, 64)
	for i := 0; b.Loop(); i++ {
		if _, _, err := s.Map().route(context.Background(), s.From(), &to[i%64].Address); err != nil && err != roads.ErrNoRoute {
			b.Fatal(err)
		}
	}
}

// pipe is both ends of an operator.
type pipe struct {
	in  []string
	out []connectors.ADU
}

func (p *pipe) Read(context.Context) (connectors.ADU, error) {
	if len(p.in) == 0 {
		return connectors.ADU{}, io.EOF
	}
	a := connectors.ADU{Payload: []byte(p.in[0]), Mark: connectors.EndOfUtterance}
	p.in = p.in[1:]
	return a, nil
}
func (p *pipe) Write(_ context.Context, a connectors.ADU) error { p.out = append(p.out, a); return nil }
func (p *pipe) Signal(connectors.Event) error                   { return nil }
func (p *pipe) Events() <-chan connectors.Event                 { return nil }
func (p *pipe) Close() error                                    { return nil }
