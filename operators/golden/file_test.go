package golden

import (
	"strings"
	"testing"
	"time"

	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/wrap"
)

const file = `<samples xmlns="urn:ninja:samples:1" judge="exact">
  <in>text/plain;lang=en</in>
  <out>text/plain;case=upper;lang=en</out>
  <sample><give>one two</give><want>ONE TWO</want></sample>
  <sample><give>three</give><want>THREE</want></sample>
  <sample encoding="base64"><give>Zm91cg==</give><want>Rk9VUg==</want></sample>
</samples>`

// What an author does before publishing: a program of his own, wrapped, against samples in a file.
func TestCheckAProgram(t *testing.T) {
	set, err := ParseSet([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	w, err := wrap.New(wrap.Config{Programs: map[string]wrap.Program{
		"upper": {Path: "/bin/sed", Args: []string{"-u", "s/.*/\\U&/"}, Mode: wrap.Lines},
		"same":  {Path: "/bin/sed", Args: []string{"-u", "s/.*/ONE/"}, Mode: wrap.Lines},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var r operators.Registry
	w.Register(&r)
	for key, good := range map[string]bool{"upper": true, "same": false} {
		spec := operators.Spec{Name: key, Program: wrap.ProgramKey, Args: []operators.Arg{{Name: "key", Value: key}},
			In: operators.MustPattern("text/plain;lang=$l"), Out: operators.MustPattern("text/plain;case=upper;lang=$l"),
			Cost: operators.Cost{Latency: operators.Latency(5 * time.Second)}}
		report, err := Check(t.Context(), Config{World: world.Real()}, In(&r, spec), set)
		if err != nil || report.Passed() != good {
			t.Errorf("%s: %v %v", key, report, err)
		}
		t.Logf("%s", report)
	}
}

func TestParseSetRefuses(t *testing.T) {
	for _, change := range [][2]string{{"urn:ninja:samples:1", "urn:x"}, {`"exact"`, `"kind"`}, {`"exact"`, `"sound"`}, {"lang=en</in>", "lang=$l</in>"},
		{"Zm91cg==", "!"}, {"base64", "rot13"}, {"<give>three</give>", ""}, {"<give>three</give>", "<give>1</give><give>2</give>"}, {"</samples>", ""}} {
		if s, err := ParseSet([]byte(strings.Replace(file, change[0], change[1], 1))); err == nil {
			t.Errorf("with %q: %+v", change[1], s)
		}
	}
	if _, err := ParseSet(make([]byte, maxFile+1)); err == nil {
		t.Error("a file without end is read")
	}
}

func FuzzParseSet(f *testing.F) {
	f.Add([]byte(file))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSet(b); err == nil && (s.Judge == nil || len(s.Samples) == 0 || s.In.IsZero() || s.Out.IsZero()) {
			t.Errorf("%+v", s)
		}
	})
}
