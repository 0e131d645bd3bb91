package catalogue

import (
	"slices"
	"testing"

	"ninja/operators"
)

func TestSpecsAreSoundAndHaveTheirPrograms(t *testing.T) {
	specs := Specs()
	var r operators.Registry
	Register(&r)
	used := make(map[string]bool)
	for _, s := range specs {
		d := operators.Description{Kind: operators.KindOperator, Name: s.Name, Node: &operators.Node{}, Operators: []operators.Spec{s}}
		b, err := d.Marshal()
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
		} else if _, err := operators.ParseDescription(b); err != nil {
			t.Errorf("%s does not come back: %v", s.Name, err)
		}
		if !slices.Contains(r.Keys(), s.Program) {
			t.Errorf("%s: no program %s", s.Name, s.Program)
		}
		if s.Summary == "" || s.Cost.Latency == 0 || s.Cost.CPU == 0 || s.Cost.Memory == 0 || s.Cost.Quality == 0 {
			t.Errorf("%s: summary or cost is missing: %+v", s.Name, s)
		}
		used[s.Program] = true
	}
	for _, key := range r.Keys() {
		if !used[key] {
			t.Errorf("program %s is in no description", key)
		}
	}
	d := operators.Description{Kind: "proxy", Name: "all", Node: &operators.Node{}, Operators: specs}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	if len(specs) < 34 {
		t.Errorf("%d operators, want 34 at least", len(specs))
	}
	t.Logf("%d operators, %d programs", len(specs), len(r.Keys()))
}

// The map job of section 7.1 and several ways to do it: no operator but the only recogniser, the only reader of answers
// and the law of the telephone itself is without a substitute.
func TestThereIsAnotherWay(t *testing.T) {
	byName := make(map[string]operators.Spec)
	for _, s := range Specs() {
		byName[s.Name] = s
	}
	phone := operators.MustPattern("audio/PCMU;rate=8000;channels=1")
	mapIn := operators.MustPattern("text/plain;about=address;grammar=map@sha256:00;lang=en")
	mapOut := operators.MustPattern("application/xml;about=directions;form=answer;lang=en")
	fits := func(from, to operators.Pattern, names ...string) error {
		chain := []operators.Link{{Name: "from", Out: from}}
		for _, n := range names {
			s := byName[n]
			chain = append(chain, s.Link())
		}
		_, err := operators.Unify(append(chain, operators.Link{Name: "to", In: to}))
		return err
	}
	for _, names := range [][]string{
		{"g711-mulaw-decode", "resample", "recognise"}, {"g711-mulaw-decode", "resample-quick", "recognise"},
		{"mulaw-to-alaw", "g711-alaw-decode", "resample", "recognise"},
	} {
		if err := fits(phone, mapIn, names...); err != nil {
			t.Errorf("there by %v: %v", names, err)
		}
	}
	for _, names := range [][]string{
		{"answer-to-text", "speak-kal", "g711-mulaw-encode"}, {"answer-to-text", "speak-rms", "resample", "g711-mulaw-encode"},
		{"answer-to-text", "speak-espeak", "resample-quick", "g711-alaw-encode", "alaw-to-mulaw"},
		{"answer-to-html", "html-to-text", "speak-slt", "resample", "g711-mulaw-encode"},
	} {
		if err := fits(mapOut, phone, names...); err != nil {
			t.Errorf("back by %v: %v", names, err)
		}
	}
	for _, names := range [][]string{{"g711-mulaw-decode", "recognise"}, {"g711-alaw-decode", "resample", "recognise"}} {
		if err := fits(phone, mapIn, names...); err == nil {
			t.Errorf("there by %v: it fits and should not", names)
		}
	}
	if err := fits(mapOut, phone, "answer-to-text", "speak-rms", "g711-mulaw-encode"); err == nil {
		t.Error("16 kHz fits a telephone of 8")
	}
}
