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
		{"state: x\nroles:\n  proxy: {nam: p}", `line 3: unknown key "nam" in roles.proxy; allowed: acl, cores, examine, external, join, listen, memory, name, operators, programs, publishers, reach, region, samples, without`},
		{"state: x\nlog: {level: loud}\nroles: {proxy: {}}", `line 2: log.level: "loud" is not one of debug, info, warn, error`},
		{"state: x\nroles: proxy", `line 2: roles: want keys and values in place of "proxy"`},
		{"state: x", "roles: name at least one of ca, capability, sds, apc, proxy, base, unit, dnssd, httpsd"},
		{"roles: {proxy: {}}", "state: name the directory"},
		{"state: x\nroles:\n  unit: {hang-up: now}", `line 3: roles.unit.hang-up: "now" is not one of never, after-answer, at-first-sample`},
		{"state: x\nroles:\n  base:\n    services:\n      - {component: c, nme: n}", `line 5: unknown key "nme" in roles.base.services`},
		{"state: x\nroles:\n  proxy: {acl: ['everyone']}", `acl "everyone": want WHO: OPERATION`},
		{"state: x\nroles:\n  proxy: {acl: ['everyone: fnd']}", `operation "fnd"`},
		{"state: x\ndiscovery: {group: '10.0.0.1:1'}\nroles: {proxy: {}}", "discovery.group"},
		{"state: x\nroles:\n  proxy: {cores: many}", "line 3"},
		{"state: x\nroles:\n  proxy:\n    programs:\n      sort: {comand: [/usr/bin/sort]}", `line 5: unknown key "comand" of a program; allowed: command, cpu,`},
		{"state: x\nroles:\n  proxy:\n    programs:\n      sort:\n        command: [sort]", `line 6: program: command: "sort" is neither an absolute path`},
		{"state: x\nroles:\n  proxy:\n    programs:\n      sort:\n        command: [/usr/bin/sort]\n        mode: shell", `line 7: program: mode: "shell" is not one of document, lines, framed`},
		{"state: x\nroles:\n  proxy: {programs: {sort: {command: [/usr/bin/sort], memory: 1000}}}", `line 3: program: memory: 1000 bytes are too few`},
		{"state: x\nroles:\n  proxy: {programs: {sort: }}", `roles.proxy.programs: program "sort": it has no command`},
		{"state: x\nroles:\n  proxy: {programs: {sort: /usr/bin/sort}}", `line 3: a program wants keys and values`},
		{"state: x\nroles:\n  proxy: {reach: [10.1.0.0]}", `roles.proxy.reach: "10.1.0.0" is not a network such as 10.1.0.0/16`},
		{"state: x\nroles:\n  proxy: {publishers: [ann]}", `roles.proxy.publishers`},
		{"state: x\nroles:\n  proxy: {samples: /no/such}", `roles.proxy.samples: "/no/such" is not a folder`},
		{"state: x\nroles:\n  dnssd:\n    import:\n      - {type: _ipp._tcp}\n      - {type: ipp}", "line 6: roles.dnssd.import: service type \"ipp\": want _NAME._tcp"},
		{"state: x\nroles:\n  dnssd:\n    export:\n      - {type: _http._tcp, address: http/@address}", "line 5: roles.dnssd.export: choose services by find, xpath or by"},
		{"state: x\nroles:\n  dnssd:\n    export: [{type: _http._tcp, find: ['=x'], address: a}]", `line 4: roles.dnssd.export: term "=x" begins with no name`},
		{"state: x\nroles:\n  dnssd:\n    export: [{type: _http._tcp, find: [kind=web]}]", "line 4: roles.dnssd.export: address: name the place"},
		{"state: x\nroles:\n  dnssd: {via: 127.0.0.1}", "line 3: roles.dnssd: name service types to import"},
		{"state: x\nroles:\n  dnssd: {via: 'fe80::1', import: [{type: _ipp._tcp}]}", `line 3: roles.dnssd: via: "fe80::1" is not the IPv4 address`},
		{"state: x\nroles:\n  dnssd: {import: [_ipp._tcp]}", `line 3: roles.dnssd.import: want keys and values in place of "_ipp._tcp"`},
		{"state: x\nroles:\n  httpsd: {}", "line 3: roles.httpsd: listen: where Prometheus asks, as in 127.0.0.1:7781"},
		{"state: x\nroles:\n  httpsd: {listen: ':1', allow: [lan]}", "line 3: roles.httpsd: allow"},
		{"state: x\nroles:\n  httpsd: {listen: ':1', xpath: '//a[', find: [a]}", "line 3: roles.httpsd: find and xpath do not go together"},
		{"state: x\nroles:\n  httpsd: {listen: ':1', xpath: '//a['}", "line 3: roles.httpsd: "},
		{"state: x\nroles: {sds: {registrars: [ann]}}", `roles.sds.registrars: identity "ann"`},
		{"state: x\ndiscovery: {group: none}\nroles: {proxy: {}}", "discovery.group is none: name the server to ask in discovery.server"},
		{"state: x\ndiscovery: {group: none}\nroles: {sds: {}}", "discovery.group is none: name an address in roles.sds.udp"},
		{"state: x\nroles: {sds: {udp: '0.0.0.0:1'}}", `roles.sds.udp: "0.0.0.0:1" is not an address that others reach`},
		{"state: x\nroles: {sds: {channel: none}}", `roles.sds.channel: "none" is not a multicast address`},
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
