package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ninja/sds/tree"
)

// TestParentsAreKept: what is changed holds after a restart, over what the configuration says, until that is wanted again.
func TestParentsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "parents.json")
	role := []parentConfig{{Hierarchy: "a", Addresses: []string{"a:1"}}, {Hierarchy: "b", Addresses: []string{"b:1"}, Domain: "example.org"}}
	now := func() map[string]string {
		p, err := loadParents(file, role)
		if err != nil {
			t.Fatal(err)
		}
		out := make(map[string]string)
		for _, x := range p.now(slog.New(slog.DiscardHandler)) {
			out[x.Hierarchy] = strings.Join(append(slices.Clone(x.Addresses), x.Domain), " ")
		}
		return out
	}
	keep := func(hierarchy string, to *tree.Parent, configured bool) {
		p, err := loadParents(file, role)
		if err == nil {
			err = p.keep(hierarchy, to, configured)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, w map[string]string) {
		if got := now(); !reflect.DeepEqual(got, w) {
			t.Errorf("%s: %v, want %v", what, got, w)
		}
	}
	want("as configured", map[string]string{"a": "a:1 ", "b": "b:1 example.org"})
	keep("a", &tree.Parent{Hierarchy: "a", Addresses: []string{"x:1", "x:2"}, Domain: "other"}, false)
	keep("b", nil, false)
	keep("c", &tree.Parent{Hierarchy: "c", Addresses: []string{"c:1"}}, false)
	want("changed", map[string]string{"a": "x:1 x:2 other", "c": "c:1 "})
	keep("a", &tree.Parent{Hierarchy: "a", Addresses: []string{"a:1"}}, true)
	keep("b", nil, true)
	keep("c", nil, true)
	want("as configured again", map[string]string{"a": "a:1 ", "b": "b:1 example.org"})
	for _, broken := range []string{"{", `{"A": {"addresses": ["a:1"]}}`, `{"a": {"addresses": []}}`, `{"a": {"addresses": ["a"]}}`, strings.Repeat(" ", maxParents+1)} {
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadParents(file, role); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%.20q: %v", broken, err)
		}
	}
}
