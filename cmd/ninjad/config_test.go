package main

import (
	"strings"
	"testing"
)

func TestExampleLoads(t *testing.T) {
	c, err := parseConfig([]byte(strings.ReplaceAll(example, "/var/lib/ninja", t.TempDir())))
	if err != nil {
		t.Fatal(err)
	}
	if c.Roles.Base.Services[0].Component != "time-of-day" || c.Roles.Unit.Position.Lat != 39.16 || c.Roles.SDS.Listen != "127.0.0.1:7702" {
		t.Errorf("read as %+v", c)
	}
}

// An error in a configuration names the line and what is allowed there.
func TestMistakesAreNamed(t *testing.T) {
	for _, tc := range []struct{ file, want string }{
		{"state: x\nroles:\n  proxy: {nam: p}", `line 3: unknown key "nam" in roles.proxy; allowed: acl, cores, external, join, listen, memory, name, region, without`},
		{"state: x\nlog: {level: loud}\nroles: {proxy: {}}", `line 2: log.level: "loud" is not one of debug, info, warn, error`},
		{"state: x\nroles: proxy", `line 2: roles: want keys and values in place of "proxy"`},
		{"state: x", "roles: name at least one of ca, capability, sds, apc, proxy, base, unit"},
		{"roles: {proxy: {}}", "state: name the directory"},
		{"state: x\nroles:\n  unit: {hang-up: now}", `line 3: roles.unit.hang-up: "now" is not one of never, after-answer, at-first-sample`},
		{"state: x\nroles:\n  base:\n    services:\n      - {component: c, nme: n}", `line 5: unknown key "nme" in roles.base.services`},
		{"state: x\nroles:\n  proxy: {acl: ['everyone']}", `acl "everyone": want WHO: OPERATION`},
		{"state: x\nroles:\n  proxy: {acl: ['everyone: fnd']}", `operation "fnd"`},
		{"state: x\ndiscovery: {group: '10.0.0.1:1'}\nroles: {proxy: {}}", "discovery.group"},
		{"state: x\nroles:\n  proxy: {cores: many}", "line 3"},
		{"", "empty"},
		{"[1, 2]", "want keys and values"},
	} {
		if _, err := parseConfig([]byte(tc.file)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.file, err, tc.want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("state: x\nroles: {proxy: {name: p}}"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) > maxConfig {
			return
		}
		_, _ = parseConfig(b)
	})
}
