package wrap

import (
	"strings"
	"testing"
	"time"
)

func TestParsePrograms(t *testing.T) {
	all, err := ParsePrograms([]byte("shout:\n  command: [/usr/bin/python3, ./shout.py, -x]\n  mode: lines\n  cpu: 2s\nsort: {command: [./sort], network: true, user: 1000}\n"), "/srv/ops")
	if err != nil {
		t.Fatal(err)
	}
	p := all["shout"]
	if p.Path != "/usr/bin/python3" || strings.Join(p.Args, " ") != "/srv/ops/shout.py -x" || p.Mode != Lines || p.CPU != 2*time.Second || p.Network || p.Memory != 512<<20 || p.User != 65534 {
		t.Errorf("%+v", p)
	}
	if q := all["sort"]; q.Path != "/srv/ops/sort" || q.Mode != Document || !q.Network || q.User != 1000 || q.CPU != 10*time.Second {
		t.Errorf("%+v", q)
	}
	for text, want := range map[string]string{
		"": "empty", "[]": "cannot unmarshal", "a: b": "line 1: a program wants keys", "a:\n  cmd: x": `line 2: unknown key "cmd"`,
		"a: {command: []}": "line 1: program: command: name the program", "a:\n  command: [python3]": "command -v python3 says where",
		"a: {command: [../x]}": "neither an absolute path", "a: {command: [/x], cpu: -1s}": "-1s of processor time", "a: {command: [/x], cpu: soon}": "line 1",
		"a: {command: [/x], memory: 5}": "at least 16777216", "a: {command: [/x], memory: -5}": "line 1", "a:": "has no command",
	} {
		if _, err := ParsePrograms([]byte(text), "/"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Whatever a list of programs says, its programs are absolute paths with bounds.
func FuzzParsePrograms(f *testing.F) {
	f.Add([]byte("shout:\n  command: [/usr/bin/python3, ./shout.py]\n  mode: lines\n"))
	f.Add([]byte("a: &x {command: [./y], memory: 99999999999999999999}\nb: *x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParsePrograms(b, "/srv")
		if err != nil {
			return
		}
		for key, p := range all {
			if !strings.HasPrefix(p.Path, "/") || p.Memory == 0 || p.Files == 0 || p.Processes == 0 || p.FileSize == 0 || p.CPU < 0 {
				t.Errorf("%q: %+v", key, p)
			}
		}
	})
}
