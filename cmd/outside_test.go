package cmd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ninja/connectors/rtp/external"
)

// heardAt counts the packets with sound that come to a port of this machine, which speaks nothing of ours.
func heardAt(t *testing.T) (port int, packets *atomic.Int64) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets = new(atomic.Int64)
	ended := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-ended })
	go func() {
		defer close(ended)
		for b := make([]byte, 1500); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n > 12 && b[0]>>6 == 2 { // RTP (RFC 3550) with a payload; a challenge is no media
				packets.Add(1)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port, packets
}

// A path ends at an address outside the system. Nothing is sent there before whoever is at the address has consented; nothing
// at all to addresses that no administrator allows, and for users whom the proxy does not let.
func TestAnAddressOutside(t *testing.T) {
	s := newSystem(t)
	willing, sound := heardAt(t)
	unwilling, silence := heardAt(t)
	const key = "a secret of the house"
	door, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answering, stop := context.WithCancel(context.Background())
	answered := make(chan error, 1)
	t.Cleanup(func() { stop(); <-answered })
	go func() {
		answered <- external.Answer(answering, door, strings.ReplaceAll(key, " ", "-"), uint16(willing))
	}()

	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	ann := s.user("server/admin", "ann")
	rule := func(port int) string {
		return fmt.Sprintf("127.0.0.1:%d consent=%d key=%s", port, door.LocalAddr().(*net.UDPAddr).Port, strings.ReplaceAll(key, " ", "-"))
	}
	s.run("proxy", fmt.Sprintf("roles:\n  proxy: {name: p, join: %q, external: [%q, %q], acl: ['everyone: find, use', 'spiffe://test.ninja/user/ann: find, use, send-to']}\n",
		s.must("server/admin", "ninjactl", "token", "--for", "proxy/p"), rule(willing), rule(unwilling)))
	s.run("unit", fmt.Sprintf("roles:\n  unit: {name: u, join: %q, hang-up: never, acl: ['everyone: find, use, listen-from']}\n",
		s.must("server/admin", "ninjactl", "token", "--for", "unit/u")))
	to := func(port int) string { return fmt.Sprintf("phone:u ! rtp://127.0.0.1:%d/audio/PCMU", port) }

	s.eventually("there is a plan", func() bool { return s.tool(ann, "ninjactl", "path", "plan", to(willing)).code == 0 })
	for who, request := range map[string]string{ann: to(9), "server/admin": to(willing)} {
		want := map[string]string{ann: "may reach 127.0.0.1:9", "server/admin": "may not send-to"}[who]
		if r := s.tool(who, "ninjactl", "path", "create", request); r.code == 0 || !strings.Contains(r.err, want) {
			t.Errorf("%s: %s: %+v, want %q", who, request, r, want)
		}
	}
	create := func(port int) (path string) {
		var made struct{ Path string }
		if err := json.Unmarshal([]byte(s.must(ann, "ninjactl", "path", "create", to(port), "--output", "json")), &made); err != nil {
			t.Fatal(err)
		}
		return made.Path
	}
	refused := create(unwilling)
	heard := create(willing)
	s.eventually("the address that consents hears sound", func() bool { return sound.Load() > 50 })
	time.Sleep(time.Second) // real packets take real time
	if n := silence.Load(); n != 0 {
		t.Errorf("%d packets were sent to an address that has not consented", n)
	}
	for _, path := range []string{refused, heard} {
		s.must(ann, "ninjactl", "path", "delete", path)
	}
	before := sound.Load()
	time.Sleep(500 * time.Millisecond)
	if after := sound.Load(); after != before {
		t.Errorf("%d packets after the path was gone", after-before)
	}
	t.Logf("PROVE %d packets to the address that consented, %d to the one that did not", before, silence.Load())
}
