package cmd_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A plan is explained by the creator, and again from the catalogue that it tells, with nobody asked; a refusal says what
// would do instead.
func TestPlansAreExplained(t *testing.T) {
	s := newSystem(t)
	s.dev()
	const request = "phone:dev ! ?time-of-day ! phone:dev"
	s.eventually("everything is published", func() bool { return s.tool("dev/admin", "ninjactl", "path", "plan", request).code == 0 })
	var e struct {
		Found struct {
			Proven bool
			Rivals []struct{ Without, Why string }
		}
	}
	text := s.must("dev/admin", "ninjactl", "path", "plan", request, "--explain", "--output", "json")
	if err := json.Unmarshal([]byte(text), &e); err != nil || !e.Found.Proven || len(e.Found.Rivals) == 0 {
		t.Errorf("%v in\n%s", err, text)
	}
	for output, want := range map[string]string{"text": "proven best", "dot": "digraph path", "mermaid": "flowchart LR"} {
		if got := s.must("dev/admin", "ninjactl", "path", "plan", request, "--explain", "--output", output); !strings.Contains(got, want) {
			t.Errorf("--output %s lacks %q:\n%s", output, want, got)
		}
	}
	if got := s.must("dev/admin", "ninjactl", "catalogue"); !strings.Contains(got, "resample") {
		t.Errorf("the catalogue lacks the resampler:\n%s", got)
	}
	file := filepath.Join(s.dir, "catalogue.json")
	if err := os.WriteFile(file, []byte(s.must("dev/admin", "ninjactl", "catalogue", "--output", "json")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.must("nobody", "ninjactl", "path", "plan", request, "--catalogue", file); !strings.Contains(got, "proven best") {
		t.Errorf("from the file:\n%s", got)
	}
	r := s.tool("dev/admin", "ninjactl", "path", "plan", request+" latency<10ms", "--explain")
	_, nearest, ok := strings.Cut(strings.TrimSpace(r.out), "this would do: ")
	if r.code == 0 || !ok {
		t.Fatalf("refused with %+v", r)
	}
	s.must("dev/admin", "ninjactl", "path", "plan", nearest)
	template := filepath.Join(s.dir, "template.xml")
	if err := os.WriteFile(template, []byte(`<service xmlns="urn:ninja:service:1" kind="time-of-day"/>`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.must("dev/admin", "ninjactl", "path", "plan", "phone:dev ! ?@1 ! phone:dev", "--require", template)
}
