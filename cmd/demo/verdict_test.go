package main

import (
	"testing"

	"ninja/examples/directions"
)

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		said, answer string
		same         bool
		status       directions.Status
	}{
		{"six fifteen south main street", "found: 615 South Main Street, Newark, 4.2 miles, 9 min, 5 steps", true, directions.Found},
		{"six oh five south main street", "found: 615 South Main Street, Newark, 4.2 miles, 9 min, 5 steps", false, directions.Found},
		{"six fifteen south main street", "found: 615 North Main Street, Newark, 4.2 miles, 9 min, 5 steps", false, directions.Found},
		{"nine nine main street", "unknown: 99 Main Street", true, directions.Unknown},
		{"one hundred main street", "ambiguous: 100 Main Street, Newark or 100 Main Street, Smyrna", true, directions.Ambiguous},
		{"one hundred main street", `unheard: heard ""`, false, directions.Unheard},
	} {
		v := verdict{said: tc.said, outcome: outcome{answer: tc.answer}}
		if err := v.judge(); err != nil || v.same != tc.same || v.status != tc.status {
			t.Errorf("%q answered %q: same %v, status %s, %v", tc.said, tc.answer, v.same, v.status, err)
		}
	}
	for _, answer := range []string{"", "found:", "all is well"} {
		v := verdict{said: "x", outcome: outcome{answer: answer}}
		if v.judge() == nil {
			t.Errorf("%q is taken for an answer", answer)
		}
	}
}
