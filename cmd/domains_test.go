package cmd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two domains exchange trust files, one joins below the other, and a user of each finds what the other shows everyone,
// signed by its owner and checked against the owner's own domain, and what is hidden there and granted by name, alone or in
// a group of either domain; without the exchange nothing joins, and what is not granted stays at home.
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
	cam := west.user(admin, "cam")
	sees := func(user, what string, want bool) {
		t.Helper()
		begun := time.Now()
		west.eventually(fmt.Sprintf("%s: found is %v", what, want), func() bool {
			r := west.tool(user, "sdsquery", "--scope", "all", "kind=lamp") // where the other one is not found, nothing is shown
			return strings.Contains(r.out, "open-east") && strings.Contains(r.out, "hidden-east") == want
		})
		t.Logf("%s: %v", what, time.Since(begun).Round(10*time.Millisecond))
	}
	const bobID = "spiffe://west.test/user/bob"
	grant := func(what, who string) { east.must(ann, "ninjactl", "acl", what, "hidden-east", who, "find") }
	grant("grant", bobID)
	sees(bob, "granted by name", true)
	if finds(west, cam, "hidden-east") {
		t.Error("granted to one user of another domain, and found by another")
	}
	if said := east.must(ann, "ninjactl", "acl", "who-sees", "hidden-east"); !strings.Contains(said, bobID) {
		t.Errorf("who sees it: %s", said)
	}
	grant("revoke", bobID)
	sees(bob, "the grant is taken back", false)
	west.must(admin, "ninjactl", "group", "set", "staff", bobID)
	grant("grant", "group:west.test/staff")
	sees(bob, "granted to a group of the other domain", true)
	if said := east.must(ann, "ninjactl", "acl", "who-sees", "hidden-east"); !strings.Contains(said, "known in west.test") {
		t.Errorf("who sees it: %s", said)
	}
	west.must(admin, "ninjactl", "group", "set", "staff", "spiffe://west.test/user/cam")
	sees(bob, "no longer in the group", false)
	sees(cam, "in the group now", true)
	grant("revoke", "group:west.test/staff")
	sees(cam, "the group's grant is taken back", false)
	east.must(admin, "ninjactl", "group", "set", "partners", bobID)
	grant("grant", "group:partners")
	sees(bob, "a guest in a group of this domain", true)
	log, err := os.ReadFile(filepath.Join(east.dir, "server", "audit-capability", "audit.jsonl"))
	if err != nil || !strings.Contains(string(log), bobID+": find") || !strings.Contains(string(log), "group:west.test/staff: find") {
		t.Errorf("the audit log lacks what was granted to another domain: %v\n%s", err, log)
	}
	// East begins with another routing key, and west has the old trust file: nobody notices.
	east.must(admin, "ninjactl", "ca", "routing-key", "--change")
	if !finds(west, bob, "hidden-east") {
		t.Error("not found after the routing key has changed")
	}
	if said := east.must(admin, "ninjactl", "ca", "audit", "--lines", "5"); !strings.Contains(said, "routing key") {
		t.Errorf("the audit log does not say which key is trusted: %s", said)
	}
	west.must(admin, "ninjactl", "ca", "ban", "user/bob")
	west.eventually("nothing for who is banned at home", func() bool { return !finds(west, bob, "hidden-east") })
	west.must(admin, "ninjactl", "ca", "unban", "user/bob")
	sees(bob, "the ban is lifted", true)
	// East trusts west by a file of before there were routing keys, then not at all.
	write(t, filepath.Join(east.dir, "old.pem"), rootsAlone(west.must(admin, "ninjactl", "ca", "roots")))
	if said := east.must(admin, "ninjactl", "ca", "trust", "west.test", filepath.Join(east.dir, "old.pem")); !strings.Contains(said, "no routing key") {
		t.Errorf("a file without a routing key: %s", said)
	}
	sees(bob, "trusted without a routing key", false)
	if !finds(west, bob, "open-east") {
		t.Error("what is shown to everyone is not found without a routing key")
	}
	if xml := west.must(bob, "sdsquery", "--scope", "all", "--output", "json", "name=open-east"); !strings.Contains(xml, "spiffe://east.test/user/ann") {
		t.Errorf("whose it is: %s", xml)
	}
	// A server of another domain that was let in to join may do nothing else, and one that was not may not even connect.
	west.must(admin, "ninjactl", "ca", "distrust", "east.test")
	west.eventually("the trust ends", func() bool { return !finds(west, bob, "open-east") })
}

// rootsAlone is a trust file as it was before there were routing keys.
func rootsAlone(file string) string {
	before, _, _ := strings.Cut(file, "-----BEGIN NINJA ROUTING KEY")
	return before
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
