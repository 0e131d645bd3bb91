package operators

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ninja/connectors"
)

// patterns draws the text of a pattern: fixed values, sets, ranges, variables, anything.
func patterns() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		value := rapid.StringMatching(`[a-zA-Z0-9@:#._/-]{1,12}`)
		domains := rapid.OneOf(value, rapid.Just("*"), rapid.SampledFrom([]string{"1..2", "4000..192000", "-5..0.5", "8|16", "en|de|fr"}))
		s := rapid.StringMatching(`(audio|text|image)/[a-zA-Z0-9.+-]{1,10}`).Draw(t, "media")
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9-]{0,7}`), 0, 6, rapid.ID).Draw(t, "names") {
			d := domains.Draw(t, "domain")
			if strings.Contains(d, "..") && !strings.ContainsAny(d[:1], "-1248") {
				d = "x" // dots in a drawn value would be a range that is none
			}
			if rapid.Bool().Draw(t, "variable") {
				v := "$" + rapid.StringMatching(`[a-z]{1,3}`).Draw(t, "name")
				if d != "*" {
					v += ":" + d
				}
				d = v
			}
			s += ";" + name + "=" + d
		}
		return s
	})
}

// What is parsed is printed so that it is parsed to the same again, whatever the order of its parameters.
func TestPatternsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := patterns().Draw(t, "pattern")
		p, err := ParsePattern(s)
		if err != nil {
			return // such as a set that names a value twice
		}
		again, err := ParsePattern(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%q is printed as %q and read as %q, %v", s, p, again, err)
		}
		parts := strings.Split(s, ";")
		for i, j := 1, len(parts)-1; i < j; i, j = i+1, j-1 {
			parts[i], parts[j] = parts[j], parts[i]
		}
		if other, err := ParsePattern(strings.Join(parts, ";")); err != nil || other.String() != p.String() {
			t.Fatalf("the order of parameters changes %q to %q, %v", p, other, err)
		}
	})
}

// Unify's answer is right: the types that it gives fit both neighbours and hold what each wants. Its refusal is one
// sentence, and names a parameter of the two patterns, or their media types.
func TestUnifyIsSound(t *testing.T) {
	fits, misses := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		out, err := ParsePattern(patterns().Draw(t, "out"))
		if err != nil {
			return
		}
		in, err := ParsePattern(patterns().Draw(t, "in"))
		if err != nil {
			return
		}
		if rapid.Bool().Draw(t, "related") { // wants some of what is offered
			in = Pattern{media: out.media}
			for _, p := range out.params {
				switch rapid.IntRange(0, 3).Draw(t, p.name) {
				case 0, 1:
					in.params = append(in.params, p)
				case 2:
					in.params = append(in.params, patternParam{name: p.name})
				}
			}
		}
		hops, err := Unify([]Link{{Name: "a", Out: out}, {Name: "b", In: in}})
		if err == nil {
			fits++
			for _, chain := range [][]Link{{{Name: "t", Out: PatternOf(hops[0])}, {Name: "b", In: in}}, {{Name: "a", Out: out}, {Name: "t", In: PatternOf(hops[0])}}} {
				if _, err := Unify(chain); err != nil {
					t.Fatalf("%v to %v gives %v, which does not fit: %v", out, in, hops[0], err)
				}
			}
			if back, err := connectors.ParseType(hops[0].String()); err != nil || back != hops[0] {
				t.Fatalf("%v is read as %v, %v", hops[0], back, err)
			}
			return
		}
		misses++
		if text := err.Error(); strings.ContainsAny(text, "\n\r") || len(text) > 3*connectors.MaxTypeLength {
			t.Fatalf("not a sentence: %q", text)
		}
		var m *Mismatch
		if errors.As(err, &m) && m.Param != "" {
			if _, ok := find(in.params, m.Param); !ok {
				t.Fatalf("%v to %v: %v, but nobody wants that", out, in, err)
			}
		}
	})
	if fits < 5 || misses < 5 {
		t.Errorf("%d fit and %d do not: the test says little", fits, misses)
	}
}

// FuzzParsePattern: whatever is read is printed so that it reads the same.
func FuzzParsePattern(f *testing.F) {
	f.Add("audio/L16;rate=$r:4000..192000;channels=1|2")
	f.Add("text/plain;lang=en;about=*")
	f.Add("a/b;x=$y:1e3..1e9;z=-0..0")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		again, err := ParsePattern(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%q is printed as %q and read as %q, %v", s, p, again, err)
		}
	})
}

// FuzzUnify: no two patterns make the unifier fail to answer, and what it accepts fits.
func FuzzUnify(f *testing.F) {
	f.Add("audio/L16;rate=44100", "audio/L16;rate=8000|16000", "audio/L16;rate=$r")
	f.Add("a/b;x=$y;z=$y", "a/b;x=1..2;z=3", "a/b")
	f.Fuzz(func(t *testing.T, out, in, then string) {
		var p [3]Pattern
		for i, s := range []string{out, in, then} {
			var err error
			if p[i], err = ParsePattern(s); err != nil {
				return
			}
		}
		hops, err := Unify([]Link{{Name: "a", Out: p[0]}, {Name: "b", In: p[1], Out: p[2]}, {Name: "c", In: p[2]}})
		if err == nil && (len(hops) != 2 || hops[0].Media() != p[0].Media()) {
			t.Errorf("%v", hops)
		}
	})
}
