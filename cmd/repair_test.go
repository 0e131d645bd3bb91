package cmd_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// shown is what path show tells in JSON.
type shown struct {
	State, Why     string
	Epoch, Repairs int
	Spares         int
	Expires        time.Time
	Steps          []struct {
		Operator, Node string
		In             uint64 `json:"adus_in"`
	}
	Moves []struct {
		Cause, Why, Steps string
		Gap               time.Duration `json:"gap_ns"`
	}
}

func (s *system) show(path string) (p shown) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.must("server/admin", "ninjactl", "path", "show", path, "--output", "json")), &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// proxy is the name of the proxy that a path runs on.
func (p *shown) proxy() string {
	for _, step := range p.Steps {
		if _, name, ok := strings.Cut(step.Node, "/proxy/"); ok {
			return name
		}
	}
	return ""
}

// paths starts servers, two proxies and a telephone.
func (s *system) paths() {
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := func(principal string) string { return s.must("server/admin", "ninjactl", "token", "--for", principal) }
	acl := "acl: ['everyone: find, use, listen-from, send-to']"
	for _, name := range []string{"p1", "p2"} {
		s.run(name, fmt.Sprintf("roles:\n  proxy: {name: %s, join: %q, %s}\n", name, token("proxy/"+name), acl))
	}
	s.run("unit", fmt.Sprintf("roles:\n  unit: {name: u, join: %q, hang-up: never, %s}\n", token("unit/u"), acl))
}

// through is a request that needs a proxy: sound is made wide and narrow again.
const through = "phone:u ! operator:operator.resample ! phone:u"

// Row A6: a proxy process is killed while a path runs through it. The path comes back on the other proxy by itself, by a plan
// that was kept for the case, and sound arrives again.
func TestAKilledProxyIsReplaced(t *testing.T) {
	s := newSystem(t)
	s.paths()
	s.eventually("both proxies are planned with", func() bool {
		r := s.tool("server/admin", "ninjactl", "catalogue")
		return r.code == 0 && strings.Contains(r.out, "proxy/p1") && strings.Contains(r.out, "proxy/p2")
	})
	s.eventually("there is a plan", func() bool { return s.tool("server/admin", "ninjactl", "path", "plan", through).code == 0 })
	var made struct{ Path string }
	if err := json.Unmarshal([]byte(s.must("server/admin", "ninjactl", "path", "create", through, "--output", "json")), &made); err != nil {
		t.Fatal(err)
	}
	heard := func() bool { p := s.show(made.Path); return p.State == "running" && p.Steps[len(p.Steps)-1].In > 50 }
	s.eventually("sound arrives", heard)
	before := s.show(made.Path)
	if before.Spares != 1 {
		t.Errorf("%d spare plans", before.Spares)
	}
	s.kill(before.proxy())
	killed := time.Now()
	s.eventually("the path is repaired", func() bool { return s.show(made.Path).Repairs == 1 })
	at := len(before.Steps) - 1
	s.eventually("sound arrives again", func() bool { // the loudspeaker counts on
		now := s.show(made.Path)
		return now.State == "running" && now.Steps[at].In > before.Steps[at].In+50
	})
	back := time.Since(killed)
	after := s.show(made.Path)
	if after.Epoch != 2 || after.proxy() == before.proxy() || len(after.Moves) != 1 || after.Moves[0].Cause != "repair" {
		t.Errorf("after: %+v", after)
	}
	t.Logf("PROVE a proxy killed: repaired in %v, a second of sound heard %v after the kill", after.Moves[0].Gap.Round(time.Millisecond), back.Round(time.Millisecond))
	text := s.must("server/admin", "ninjactl", "path", "show", made.Path)
	if !strings.Contains(text, "repaired 1 times") || !strings.Contains(text, "is gone") {
		t.Errorf("path show says\n%s", text)
	}
	// A path runs on when it is renewed.
	if r := s.must("server/admin", "ninjactl", "path", "renew", made.Path); !strings.Contains(r, "may run until") {
		t.Errorf("renewed: %s", r)
	}
	if now := s.show(made.Path); now.Expires.Before(before.Expires) {
		t.Errorf("renewed until %v, before until %v", now.Expires, before.Expires)
	}
	s.must("server/admin", "ninjactl", "path", "delete", made.Path)
}
