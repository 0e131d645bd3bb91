package cmd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two domains exchange roots, one joins below the other, and a user of each finds what the other shows everyone, signed by
// its owner and checked against the owner's own domain; without the exchange nothing joins, and what is hidden stays at
// home.
func TestOneQueryOverTwoDomains(t *testing.T) {
	t.Parallel()
	east, west := newSystem(t), newSystem(t)
	east.run("server", `
roles:
  ca: {domain: east.test}
  capability: {}
  sds: {period: 1s, children: [{hierarchy: world, allow: [west.test]}]}
`)
	address := readyAddress(t, east, "server", "sds")
	west.run("server", fmt.Sprintf(`
roles:
  ca: {domain: west.test}
  capability: {}
  sds: {period: 1s, parents: [{hierarchy: world, addresses: ['%s'], domain: east.test}]}
`, address))
	const admin = "server/admin"
	ann, bob := east.user(admin, "ann"), west.user(admin, "bob")
	for _, side := range []struct {
		*system
		who, name string
	}{{east, ann, "east"}, {west, bob, "west"}} {
		for _, secret := range []string{"open", "hidden"} {
			name := secret + "-" + side.name
			side.publish(side.who, name, fmt.Sprintf(`<service xmlns="urn:ninja:service:1" kind="lamp" name="%s"/>`, name))
			side.eventually(name+" is found at home", func() bool { return side.tool(side.who, "sdsquery", "kind=lamp", "name="+name).code == 0 })
			if secret == "open" {
				side.must(side.who, "ninjactl", "acl", "grant", name, "everyone", "find")
			}
		}
	}
	finds := func(s *system, who, name string) bool {
		r := s.tool(who, "sdsquery", "--scope", "all", "kind=lamp")
		return strings.Contains(r.out, name)
	}
	if finds(east, ann, "open-west") || finds(west, bob, "open-east") {
		t.Fatal("found in another domain before it was trusted")
	}
	for _, exchange := range []struct {
		from, to *system
		domain   string
	}{{east, west, "east.test"}, {west, east, "west.test"}} {
		file := filepath.Join(exchange.to.dir, exchange.domain+".pem")
		write(t, file, exchange.from.must(admin, "ninjactl", "ca", "roots"))
		exchange.to.must(admin, "ninjactl", "ca", "trust", exchange.domain, file)
	}
	west.eventually("west finds what east shows everyone", func() bool { return finds(west, bob, "open-east") })
	east.eventually("east finds what west shows everyone", func() bool { return finds(east, ann, "open-west") })
	if finds(west, bob, "hidden-east") || finds(east, ann, "hidden-west") {
		t.Error("what a domain hides was found in another")
	}
	if xml := west.must(bob, "sdsquery", "--scope", "all", "--output", "json", "name=open-east"); !strings.Contains(xml, "spiffe://east.test/user/ann") {
		t.Errorf("whose it is: %s", xml)
	}
	// A server of another domain that was let in to join may do nothing else, and one that was not may not even connect.
	west.must(admin, "ninjactl", "ca", "distrust", "east.test")
	west.eventually("the trust ends", func() bool { return !finds(west, bob, "open-east") })
}

// readyAddress is where a role of a daemon is reached.
func readyAddress(t *testing.T, s *system, daemon, role string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, daemon+".ready"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), `"`+role+`":"`)
	address, _, end := strings.Cut(rest, `"`)
	if !ok || !end {
		t.Fatalf("the ready file of %s lacks %s: %s", daemon, role, b)
	}
	return address
}
