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
