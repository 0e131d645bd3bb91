package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ninja/apc"
)

// printed is what a command writes to standard output.
func printed(t *testing.T, run func() error) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = before }()
	err = run()
	w.Close()
	b, readErr := io.ReadAll(r)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(b), err
}

// A dry run against a catalogue file asks nobody: no identity, no server. The idle proxy is far, the near one is busy.
func TestDryRun(t *testing.T) {
	file := filepath.Join("testdata", "catalogue.json")
	const line = "phone:lobby ! phone:lobby"
	for _, tc := range []struct {
		line, output, want string
		is                 error
	}{
		{line, apc.Text, "to-latin                 at proxy/one", nil},
		{line + " weight:latency=0", apc.Text, "to-latin                 at proxy/two", nil},
		{line, apc.JSON, `"proven": true`, nil},
		{line, apc.DOT, "digraph path {", nil},
		{line, apc.Mermaid, "flowchart LR", nil},
		{line + " quality>0.95", apc.Text, "this would do: phone:lobby ! phone:lobby quality>0.9", apc.ErrRefused},
		{line + " quality>0.95", apc.JSON, `"nearest": "phone:lobby ! phone:lobby quality`, apc.ErrRefused},
		{line + " quality>0.95", apc.Mermaid, "%% refused (bounds)", apc.ErrRefused},
		{"phone:attic ! phone:lobby", apc.Text, "nothing that you may find is called phone:attic", apc.ErrRefused},
		{"phone:lobby", apc.Text, "", apc.ErrBadRequest},
	} {
		p := &pathPlan{asked: asked{Request: tc.line}, Catalogue: file, Output: tc.output}
		out, err := printed(t, func() error { return p.Run(context.Background(), &commands{}) })
		if !errors.Is(err, tc.is) || !strings.Contains(out, tc.want) {
			t.Errorf("%s --output %s: %v\n%s\nlacks %q", tc.line, tc.output, err, out, tc.want)
		}
	}
	bad := &pathPlan{asked: asked{Request: line}, Catalogue: "path_test.go"}
	if err := bad.Run(context.Background(), &commands{}); err == nil || !strings.Contains(err.Error(), "path_test.go: catalogue: at byte") {
		t.Errorf("a file that is none: %v", err)
	}
}
