package cmd_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// shortLived is a server whose certificates live for ten seconds, so that a root changes in half a minute.
const shortLived = `
roles:
  ca: {domain: town.test, life: 10s}
  capability: {}
  sds: {period: 1s}
`

// publish has somebody announce a description, until the test ends.
func (s *system) publish(home, name, xml string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name+".xml")
	write(s.t, file, xml)
	cmd := exec.Command(filepath.Join(bin, "ninjactl"), "publish", file)
	cmd.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, home))
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// Threats, row 23: the root changes while a client asks all the time, and no query fails. Row 7: what a banned principal
// published is gone, and what it asks is refused, within five seconds.
func TestTheRootChangesAndTheBannedGo(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.run("server", shortLived)
	admin := "server/admin"
	ann, eve := s.user(admin, "ann"), s.user(admin, "eve")
	s.publish(ann, "lamp", `<service xmlns="urn:ninja:service:1" kind="lamp" name="lamp"/>`)
	s.publish(eve, "trap", `<service xmlns="urn:ninja:service:1" kind="trap" name="trap"/>`)
	s.eventually("both services are found", func() bool {
		return s.tool(ann, "sdsquery", "kind=lamp").code == 0 && s.tool(eve, "sdsquery", "kind=trap").code == 0
	})

	before := s.root(admin)
	s.must(admin, "ninjactl", "ca", "rotate")
	var asked, failed atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if r := s.tool(ann, "sdsquery", "kind=lamp"); r.code != 0 {
				failed.Add(1)
				t.Errorf("query %d failed while the root changed: %s%s", asked.Load(), r.out, r.err)
			}
			asked.Add(1)
			time.Sleep(100 * time.Millisecond) // a client's own pace
		}
	}()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Second) {
		now := s.root(admin)
		if now.Root != before.Root && now.Next == "" && len(now.Last) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the root has not changed: %+v", now)
		}
	}
	close(stop)
	<-stopped
	t.Logf("PROVE %d queries while the root changed, %d failed", asked.Load(), failed.Load())

	s.must(admin, "ninjactl", "acl", "get", "nothing") // the administrator's own identity has come along
	s.must(eve, "sdsquery", "kind=trap")
	begun := time.Now()
	s.must(admin, "ninjactl", "ca", "ban", "user/eve")
	for {
		if r := s.tool(eve, "sdsquery", "kind=trap"); r.code > 1 || strings.Contains(r.err, "banned") {
			break
		}
		if time.Since(begun) > 5*time.Second {
			t.Fatal("five seconds after the ban eve is still answered")
		}
	}
	t.Logf("PROVE from the ban to the last answer: %v", time.Since(begun).Round(time.Millisecond))
	if log := s.must(admin, "ninjactl", "ca", "audit"); !strings.Contains(log, `"event":"ban"`) || !strings.Contains(log, `"event":"rotate"`) {
		t.Errorf("the audit log lacks the ban or the rotation:\n%s", log)
	}
	// Every role that grants keeps a log of its own; each line follows the one before.
	s.must(ann, "ninjactl", "acl", "grant", "lamp", "everyone", "find")
	s.tool(ann, "ninjactl", "acl", "grant", "spiffe://town.test/user/eve#trap", "everyone", "find")
	for file, want := range map[string]string{
		"ca": `"event":"ban"`, "audit-capability": `"denied":"only spiffe://town.test/user/eve may`,
	} {
		name := filepath.Join(s.dir, "server", file, "audit.jsonl")
		s.must(admin, "ninjactl", "ca", "audit", "--verify", name)
		if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s: %v\n%s", name, want, err, b)
		}
	}
}

// authorityStatus is what `ninjactl ca status --output json` prints.
type authorityStatus struct {
	Root, Next string
	Last       []string
}

func (s *system) root(admin string) (out authorityStatus) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.must(admin, "ninjactl", "ca", "status", "--output", "json")), &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}
