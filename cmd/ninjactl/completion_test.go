package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Bash itself is asked what it would complete.
func TestBashCompletes(t *testing.T) {
	var c commands
	app, err := kong.New(&c, kong.Name("ninjactl"))
	if err != nil {
		t.Fatal(err)
	}
	script := bash(app.Model.Node)
	for _, tc := range []struct{ typed, want, not string }{
		{"ninjactl pa", "path", "publish"},
		{"ninjactl path ", "renew", "join"},
		{"ninjactl path plan --output ", "mermaid", "--explain"},
		{"ninjactl path plan x --ex", "--explain", "--output"},
		{"ninjactl path show ", "0123456789abcdef", "PATH"},
		{"ninjactl path delete 01", "0123456789abcdef", "show"},
		{"ninjactl --home /x path cr", "", "create"}, // the value of an option is taken for a word: nothing, nothing wrong
	} {
		words := strings.Split(tc.typed, " ")
		shell := script + "\nninjactl() { printf 'PATH STATE\\n0123456789abcdef running\\n'; }\nCOMP_WORDS=(" + strings.Join(words[:len(words)-1], " ") +
			" '" + words[len(words)-1] + "'); COMP_CWORD=" + string(rune('0'+len(words)-1)) + "; _ninjactl; printf '%s\\n' \"${COMPREPLY[@]}\""
		out, err := exec.Command("bash", "-c", shell).CombinedOutput()
		lines := strings.Fields(string(out))
		has := func(w string) bool {
			for _, l := range lines {
				if l == w {
					return true
				}
			}
			return false
		}
		if err != nil || tc.want != "" && !has(tc.want) || has(tc.not) {
			t.Errorf("%q completes to %v (%v), want %q and not %q", tc.typed, lines, err, tc.want, tc.not)
		}
	}
	if f := fish(app.Model.Node); !strings.Contains(f, "-a renew -d 'Let a path run on") {
		t.Error("fish is not told of renew")
	}
}
