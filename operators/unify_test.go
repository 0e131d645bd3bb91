package operators

import (
	"errors"
	"testing"

	"ninja/connectors"
)

func link(name, in, out string) Link {
	l := Link{Name: name}
	if in != "" {
		l.In = MustPattern(in)
	}
	if out != "" {
		l.Out = MustPattern(out)
	}
	return l
}

// The path of section 7.1: what the map service wants decides what the recogniser before it listens for.
func TestUnifyFlowsBothWays(t *testing.T) {
	chain := []Link{
		link("phone", "", "audio/PCMU;rate=8000;channels=1"),
		link("decode", "audio/PCMU;rate=$r;channels=$c", "audio/L16;rate=$r;channels=$c"),
		link("resample", "audio/L16;rate=$from:4000..192000;channels=$c", "audio/L16;rate=$to:4000..192000;channels=$c"),
		link("recognise", "audio/L16;rate=16000;channels=1", "text/plain;lang=en;about=$a;grammar=$g"),
		link("map", "text/plain;lang=en;about=address;grammar=map@sha256:00", ""),
	}
	hops, err := Unify(chain)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"audio/PCMU;channels=1;rate=8000", "audio/L16;channels=1;rate=8000", "audio/L16;channels=1;rate=16000",
		"text/plain;about=address;grammar=map@sha256:00;lang=en",
	}
	for i, w := range want {
		if hops[i] != connectors.MustType(w) {
			t.Errorf("hop %d is %v, want %s", i, hops[i], w)
		}
	}
}

func TestUnifyExplains(t *testing.T) {
	for _, tc := range []struct{ out, in, want string }{
		{"audio/L16;rate=44100", "audio/L16;rate=8000|16000", "rate 44100 offered by a, 8000 or 16000 wanted by b"},
		{"audio/L16;rate=44100", "audio/L16;rate=4000..16000", "rate 44100 offered by a, 4000 to 16000 wanted by b"},
		{"audio/L16", "audio/L16;rate=$r", "b wants a rate, and a offers none"},
		{"audio/L16;channels=1", "audio/L16;rate=8000|16000", "b wants rate=8000 or 16000, and a offers no rate"},
		{"audio/L16;rate=1", "text/plain", "audio/L16 offered by a, text/plain wanted by b"},
	} {
		_, err := Unify([]Link{link("a", "", tc.out), link("b", tc.in, "")})
		var m *Mismatch
		if !errors.As(err, &m) || err.Error() != tc.want {
			t.Errorf("%s to %s: %v, want %s", tc.out, tc.in, err, tc.want)
		}
	}
	_, err := Unify([]Link{link("a", "", "audio/L16;rate=$r"), link("b", "audio/L16", "")})
	if err == nil || err.Error() != "nothing decides the rate that a makes" {
		t.Errorf("undecided: %v", err)
	}
}

func TestDescriptionRoundTrip(t *testing.T) {
	d := Description{Kind: "x", Name: "y", Node: &Node{Control: "a:1", Data: "a:2"}, Operators: []Spec{{
		Name: "o", Program: "p", In: MustPattern("text/plain;lang=$l"), Out: MustPattern("text/html;lang=$l"),
		Cost: Cost{CPU: 0.5, Latency: 5e6, Memory: 10, Quality: 1}, Transports: []string{"tcp"},
	}}, Position: &Position{Lat: 1.5, Lon: -2}}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseDescription(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	again, err := back.Marshal()
	if err != nil || string(again) != string(b) {
		t.Errorf("came back as\n%s\nwant\n%s (%v)", again, b, err)
	}
}
