package cmd_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ninja/operators/audio"
)

// A telephone that datagrams reach only by ICE says so, and the planner has its sound go by WebRTC, where that of any other
// goes by rtp.
func TestAPathBehindICE(t *testing.T) {
	s := newSystem(t)
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := func(principal string) string { return s.must("server/admin", "ninjactl", "token", "--for", principal) }
	said, heard := filepath.Join(s.dir, "said.wav"), filepath.Join(s.dir, "heard.wav")
	samples := make([]int16, 20*8000)
	for i := range samples {
		samples[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/8000))
	}
	write(t, said, string(audio.WAV(audio.Format{Rate: 8000, Channels: 1}, samples)))
	acl := "acl: ['everyone: find, use, listen-from, send-to']"
	s.run("caller", fmt.Sprintf("roles:\n  unit: {name: caller, join: %q, microphone: %s, hang-up: never, %s}\n", token("unit/caller"), said, acl))
	s.run("open", fmt.Sprintf("roles:\n  unit: {name: open, join: %q, %s}\n", token("unit/open"), acl))
	s.run("behind", fmt.Sprintf("transports: [tcp, webrtc]\nroles:\n  unit: {name: behind, join: %q, speaker: %s, hang-up: never, %s}\n", token("unit/behind"), heard, acl))
	for request, scheme := range map[string]string{"phone:caller ! phone:open": "rtp", "phone:caller ! phone:behind": "webrtc"} {
		s.eventually(request+" can be planned", func() bool { return s.tool("server/admin", "ninjactl", "path", "plan", request).code == 0 })
		if plan := s.must("server/admin", "ninjactl", "path", "plan", request, "--output", "json"); !strings.Contains(plan, `"`+scheme+`"`) {
			t.Errorf("%s is not planned by %s: %s", request, scheme, plan)
		}
	}
	var made struct{ Path string }
	if err := json.Unmarshal([]byte(s.must("server/admin", "ninjactl", "path", "create", "phone:caller ! phone:behind", "--output", "json")), &made); err != nil {
		t.Fatal(err)
	}
	s.eventually("a second is heard", func() bool {
		p := s.show(made.Path)
		return p.State == "running" && p.Steps[len(p.Steps)-1].In > 60
	})
	s.must("server/admin", "ninjactl", "path", "delete", made.Path)
	s.eventually("what was heard is written", func() bool { _, err := os.Stat(heard); return err == nil })
	b, err := os.ReadFile(heard)
	if err != nil {
		t.Fatal(err)
	}
	f, got, err := audio.ParseWAV(b)
	if err != nil || len(got) < f.Rate {
		t.Fatalf("%d samples: %v", len(got), err)
	}
	sum := 0.0
	for _, v := range got[len(got)/2:] {
		sum += float64(v) * float64(v)
	}
	db := 20 * math.Log10(math.Sqrt(sum/float64(len(got)-len(got)/2))/(8000/math.Sqrt2))
	t.Logf("PROVE a path to a telephone behind ICE: heard %v at %+.2f dB by webrtc", time.Duration(len(got))*time.Second/time.Duration(f.Rate), db)
	if math.Abs(db) > 1 {
		t.Errorf("the level is %.2f dB off", db)
	}
}
