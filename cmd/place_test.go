package cmd_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestAServerIsPlacedAnew: the administrator has a running server stand below another parent, or below none; that holds
// after a crash; a server below it cannot be its parent, and nobody else may.
func TestAServerIsPlacedAnew(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	address := map[string]string{}
	for i, name := range []string{"top", "b", "c"} {
		sds := fmt.Sprintf("  sds:\n    name: %s\n    channel: '%s:%d'\n    period: 1s\n", name, s.group, s.port+2*i+1)
		config := "roles:\n  ca: {domain: test.ninja}\n  capability: {}\n" + sds
		if name != "top" {
			f := &forest{system: s}
			config = "roles:\n" + sds + fmt.Sprintf("    join: %s\n    ca: %s\n    capability: %s\n    parents: [{hierarchy: world, addresses: ['%s']}]\n",
				s.must("top/admin", "ninjactl", "token", "--for", "sds/"+name), f.ready("top")["ca"], f.ready("top")["capability"], address["top"])
		}
		s.runOn(name, fmt.Sprintf("{group: '%s:%d'}", s.group, s.port+2*i), config)
		address[name] = (&forest{system: s}).ready(name)["sds"]
	}
	s.user("top/admin", "ann")
	below := func(name, parent string) func() bool {
		return func() bool {
			r := s.tool("ann", "ninjactl", "sds", "links", "--server", address[name])
			for _, line := range strings.Split(r.out, "\n") {
				if strings.Contains(line, "parent") && strings.Contains(line, "alive") {
					return parent != "" && strings.Contains(line, "sds/"+parent)
				}
			}
			return parent == "" && r.code == 0
		}
	}
	place := func(who string, args ...string) result {
		return s.tool(who, append([]string{"ninjactl", "sds"}, args...)...)
	}
	s.eventually("c stands as its configuration says", below("c", "top"))
	if out := s.must("top/admin", "ninjactl", "sds", "join", "world", address["b"], "--server", address["c"]); !strings.Contains(out, "world: below spiffe://test.ninja/sds/b at ") {
		t.Errorf("joining prints %q", out)
	}
	if !below("c", "b")() {
		t.Error("c does not stand below b")
	}
	if r := place("top/admin", "join", "world", address["c"], "--server", address["b"]); r.code == 0 || !strings.Contains(r.err, "stands below") {
		t.Errorf("b below c, which is below b: %+v", r)
	}
	if r := place("ann", "leave", "world", "--server", address["c"]); r.code == 0 || !strings.Contains(r.err, "admin") {
		t.Errorf("ann moves a server: %+v", r)
	}
	s.kill("c")
	s.start("c", "run", s.dir+"/c.yaml")
	s.eventually("c stands below b after a crash too", below("c", "b"))
	if r := place("top/admin", "leave", "world", "--server", address["c"], "--output", "json"); r.code != 0 || !strings.Contains(r.out, `"parent":""`) {
		t.Errorf("leaving: %+v", r)
	}
	s.kill("c")
	s.start("c", "run", s.dir+"/c.yaml")
	if !below("c", "")() {
		t.Error("c has a parent again")
	}
	s.must("top/admin", "ninjactl", "sds", "join", "world", "--server", address["c"])
	if !below("c", "top")() {
		t.Error("c does not stand as its configuration says")
	}
}
