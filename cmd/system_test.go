// Package cmd_test drives the real programs as their users do: separate processes, real sockets, real files.
package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bin holds the programs, built once.
var bin string

func TestMain(m *testing.M) {
	if bin = os.Getenv(insideAvahi); bin != "" { // built already
		os.Exit(m.Run())
	}
	if how := os.Getenv(flooder); how != "" {
		os.Exit(floodMain(how))
	}
	root, err := filepath.Abs("..")
	if err != nil {
		panic(err)
	}
	build := exec.Command("make", "-s", "-C", root, "build")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "make build:", err)
		os.Exit(1)
	}
	bin = filepath.Join(root, "bin")
	os.Exit(m.Run())
}

// system is a running ninjad, or several, on a channel of its own.
type system struct {
	t     *testing.T
	dir   string
	group string
	port  int
	kids  map[string]*exec.Cmd
}

func newSystem(t *testing.T) *system {
	s := &system{t: t, dir: t.TempDir(), kids: make(map[string]*exec.Cmd)}
	s.group = fmt.Sprintf("239.255.%d.%d", 10+rand.IntN(60), 1+rand.IntN(250))
	s.port = 20000 + rand.IntN(20000)
	t.Cleanup(func() {
		for name := range s.kids {
			s.stop(name)
		}
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(s.dir, "*.log"))
			for _, l := range logs {
				b, _ := os.ReadFile(l)
				t.Logf("%s:\n%s", filepath.Base(l), b)
			}
		}
	})
	return s
}

// start runs ninjad and waits until it is ready.
func (s *system) start(name string, args ...string) {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	ready := filepath.Join(s.dir, name+".ready")
	os.Remove(ready)
	cmd := exec.Command(filepath.Join(bin, "ninjad"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.kids[name] = cmd
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			return
		}
		if time.Now().After(end) || cmd.Process.Signal(syscall.Signal(0)) != nil {
			b, _ := os.ReadFile(log.Name())
			s.t.Fatalf("%s is not ready:\n%s", name, b)
		}
	}
}

// dev starts every role in one process.
func (s *system) dev() {
	s.start("dev", "dev", "--state", filepath.Join(s.dir, "dev"), "--http", "none", "--ready", filepath.Join(s.dir, "dev.ready"),
		"--group", fmt.Sprintf("%s:%d", s.group, s.port))
}

// run starts a daemon with a configuration, on the system's channel.
func (s *system) run(name, config string) {
	s.t.Helper()
	s.runOn(name, fmt.Sprintf("{group: '%s:%d'}", s.group, s.port), config)
}

// runOn starts a daemon that finds the server as it is told to.
func (s *system) runOn(name, discovery, config string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name+".yaml")
	text := fmt.Sprintf("state: %s/%s\nready: %s/%s.ready\ndiscovery: %s\n%s", s.dir, name, s.dir, name, discovery, config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.start(name, "run", file)
}

// stop asks a daemon to end and says how it did.
func (s *system) stop(name string) error {
	cmd := s.kids[name]
	delete(s.kids, name)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.Wait()
}

// kill ends a daemon as a crash does.
func (s *system) kill(name string) {
	cmd := s.kids[name]
	delete(s.kids, name)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// result is what a tool printed and how it ended.
type result struct {
	out, err string
	code     int
}

// tool runs a tool with somebody's home.
func (s *system) tool(home string, args ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, args[0]), args[1:]...)
	cmd.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, home))
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%v: %v", args, err)
	}
	return result{out.String(), complaint.String(), cmd.ProcessState.ExitCode()}
}

// must runs a tool that has to succeed.
func (s *system) must(home string, args ...string) string {
	s.t.Helper()
	r := s.tool(home, args...)
	if r.code != 0 {
		s.t.Fatalf("%v: exit %d\n%s%s", args, r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// user joins somebody.
func (s *system) user(admin, name string) string {
	s.t.Helper()
	token := s.must(admin, "ninjactl", "token", "--for", "user/"+name)
	s.must(name, "ninjactl", "join", token, "--group", fmt.Sprintf("%s:%d", s.group, s.port), "--via", "127.0.0.1")
	return name
}

// eventually waits until something holds; what the system does after an announcement takes a moment.
func (s *system) eventually(what string, holds func() bool) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not in half a minute: %s", what)
		}
	}
}

// A service is published, hidden from all but its owner, found once its owner says so, and hidden again. Whoever may not
// find it sees exactly what they would see if it did not exist.
func TestPublishFindHide(t *testing.T) {
	s := newSystem(t)
	s.dev()
	ann, bob := s.user("dev/admin", "ann"), s.user("dev/admin", "bob")
	description := filepath.Join(s.dir, "laser.xml")
	write(t, description, `<service xmlns="urn:ninja:service:1" kind="printer" name="laser"><floor>2</floor></service>`)
	publish := exec.Command(filepath.Join(bin, "ninjactl"), "publish", description)
	publish.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, ann))
	var said bytes.Buffer
	publish.Stdout, publish.Stderr = &said, &said
	if err := publish.Start(); err != nil {
		t.Fatal(err)
	}
	defer publish.Process.Kill()
	found := func(who string) bool { return s.tool(who, "sdsquery", "kind=printer", "floor=2").code == 0 }
	s.eventually("ann finds her printer", func() bool { return found(ann) })

	hidden, absent := s.tool(bob, "sdsquery", "kind=printer"), s.tool(bob, "sdsquery", "kind=plotter")
	if hidden.code != 1 || hidden != absent {
		t.Errorf("hidden is %+v, absent is %+v", hidden, absent)
	}
	s.must(ann, "ninjactl", "acl", "grant", "laser", "spiffe://dev.ninja/user/bob", "find")
	s.eventually("bob finds the printer", func() bool { return found(bob) })
	if xml := s.must(bob, "sdsquery", "--output", "xml", "kind=printer"); !strings.Contains(xml, "<floor>2</floor>") {
		t.Errorf("bob sees %s", xml)
	}
	s.must(ann, "ninjactl", "acl", "revoke", "laser", "spiffe://dev.ninja/user/bob", "find")
	s.eventually("bob no longer finds the printer", func() bool { return !found(bob) })
	if r := s.tool(bob, "ninjactl", "acl", "grant", "spiffe://dev.ninja/user/ann#laser", "everyone", "find"); r.code == 0 {
		t.Error("bob opened ann's printer to everyone")
	}

	// Its owner withdraws it: it is gone at once, not after its lifetime.
	if err := publish.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := publish.Wait(); err != nil {
		t.Errorf("publish ended with %v:\n%s", err, said.String())
	}
	s.eventually("the printer is withdrawn", func() bool { return !found(ann) })
}

// What is malformed or over a budget is refused with line, rule and remedy.
func TestBadDescriptions(t *testing.T) {
	s := newSystem(t)
	s.dev()
	clock := func() bool { return s.tool("dev/admin", "sdsquery", "kind=time-of-day").code == 0 }
	s.eventually("the clock is found", clock)
	for _, tc := range []struct{ xml, want string }{
		{"<service>\n<a></b></service>", "line 2"},
		{"<!DOCTYPE a [<!ENTITY x 'y'>]><a/>", "DOCTYPE"},
		{"<a x='1' x='2'/>", "line 1: two attributes named x: remove one"},
		{"<a><b/></a><c/>", "root"},
		{strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40), "32"},
		{"<a>" + strings.Repeat("x", 70_000) + "</a>", "65536"},
	} {
		file := filepath.Join(s.dir, "bad.xml")
		write(t, file, tc.xml)
		if r := s.tool("dev/admin", "ninjactl", "publish", "--name", "bad", file); r.code == 0 || !strings.Contains(r.err, tc.want) {
			t.Errorf("%.40q: exit %d, %s; want %q", tc.xml, r.code, r.err, tc.want)
		}
	}
	if !clock() {
		t.Error("after bad descriptions the clock is gone")
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Paths are planned, made, listed, shown and taken down by hand; what cannot be made is refused with the reason.
func TestPathsByHand(t *testing.T) {
	s := newSystem(t)
	s.dev()
	const request = "phone:dev ! ?time-of-day ! phone:dev"
	s.eventually("everything is published", func() bool { return s.tool("dev/admin", "ninjactl", "path", "plan", request).code == 0 })
	plan := s.must("dev/admin", "ninjactl", "path", "plan", request)
	for _, want := range []string{"microphone", "audio/L16;channels=1;rate=16000", "about=time", "speaker", "no cheaper path exists"} {
		if !strings.Contains(plan, want) {
			t.Errorf("the plan lacks %q:\n%s", want, plan)
		}
	}
	var made struct {
		Path  string
		State string
		Steps []struct{ Operator string }
	}
	if err := json.Unmarshal([]byte(s.must("dev/admin", "ninjactl", "path", "create", request, "--output", "json")), &made); err != nil {
		t.Fatal(err)
	}
	if made.State != "running" || len(made.Steps) < 7 {
		t.Errorf("made: %+v", made)
	}
	if list := s.must("dev/admin", "ninjactl", "path", "list"); !strings.Contains(list, made.Path) {
		t.Errorf("list:\n%s", list)
	}
	// A path is its owner's alone.
	ann := s.user("dev/admin", "ann")
	if r := s.tool(ann, "ninjactl", "path", "show", made.Path); r.code == 0 || !strings.Contains(r.err, "no such path") {
		t.Errorf("ann sees the administrator's path: %+v", r)
	}
	s.eventually("packets are counted", func() bool {
		return strings.Contains(s.must("dev/admin", "ninjactl", "path", "show", made.Path), "rtp")
	})
	if gone := s.must("dev/admin", "ninjactl", "path", "delete", made.Path); !strings.Contains(gone, "is gone") {
		t.Errorf("delete: %s", gone)
	}
	for _, tc := range []struct{ request, want string }{
		{"phone:attic ! ?time-of-day ! phone:dev", "nothing that you may find is called phone:attic"},
		{request + " latency<1ms", "latency bound 1ms: the least possible is"},
		{"phone:dev ! ?printer ! phone:dev", "no service that you may find is a printer"},
		{"phone:dev", "two endpoints"},
	} {
		if r := s.tool("dev/admin", "ninjactl", "path", "create", tc.request); r.code == 0 || !strings.Contains(r.err, tc.want) {
			t.Errorf("%s: %+v, want %q", tc.request, r, tc.want)
		}
	}
}

// A daemon has its state to itself, and stops cleanly when asked to.
func TestOneDaemonAState(t *testing.T) {
	s := newSystem(t)
	s.dev()
	second := exec.Command(filepath.Join(bin, "ninjad"), "dev", "--state", filepath.Join(s.dir, "dev"), "--http", "none")
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use by another ninjad") {
		t.Errorf("a second daemon: %v\n%s", err, out)
	}
	if err := s.stop("dev"); err != nil {
		t.Errorf("stopping: %v", err)
	}
	secrets := 0
	err = filepath.WalkDir(filepath.Join(s.dir, "dev"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && (strings.HasSuffix(path, ".pem") || strings.HasSuffix(path, ".key")) {
			secrets++
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has the mode %v", path, info.Mode().Perm())
			}
		}
		return err
	})
	if err != nil || secrets < 7 {
		t.Errorf("%d key files, %v", secrets, err)
	}
	s.dev() // the same state again: identities are kept
	if r := s.tool("dev/admin", "ninjactl", "whoami"); r.code != 0 || !strings.Contains(r.out, "spiffe://dev.ninja/user/admin") {
		t.Errorf("after a restart: %+v", r)
	}
}

// Section 6.1: "a restarted server restores its data by listening to the channel."
func TestAKilledServerRefills(t *testing.T) {
	s := newSystem(t)
	server := fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1)
	s.run("server", server)
	token := s.must("server/admin", "ninjactl", "token", "--for", "proxy/p1")
	s.run("proxy", "join: "+token+"\nroles:\n  proxy: {name: p1, acl: ['everyone: find, use']}\n")
	count := func() string {
		return strings.TrimSpace(s.tool("server/admin", "sdsquery", "--count", "kind=operator").out)
	}
	var before string
	s.eventually("the proxy's operators are found", func() bool {
		before = count()
		n := 0
		_, err := fmt.Sscan(before, &n)
		return err == nil && n >= 30
	})
	s.kill("server")
	killed := time.Now()
	s.run("server", server)
	s.eventually("all operators are found again", func() bool { return count() == before })
	t.Logf("%s services were back %v after the kill, start of the server included (period 1 s)", before, time.Since(killed).Round(time.Millisecond))
}

// Nobody lists codecs, resampler or voice: take away the ones that were chosen, and another chain is found.
func TestAnotherChain(t *testing.T) {
	s := newSystem(t)
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := func(principal string) string { return s.must("server/admin", "ninjactl", "token", "--for", principal) }
	acl := "acl: ['everyone: find, use, listen-from, send-to']"
	members := fmt.Sprintf("  base: {name: b, join: %q, services: [{component: time-of-day, name: clock, %s}]}\n  unit: {name: u, join: %q, %s}\n",
		token("base/b"), acl, token("unit/u"), acl)
	proxy := token("proxy/p")
	const request = "phone:u ! ?time-of-day ! phone:u"
	chain := func(name, without string) []string {
		s.run(name, fmt.Sprintf("roles:\n  proxy: {name: p, join: %q, without: [%s], %s}\n%s", proxy, without, acl, members))
		var plan struct{ Steps []struct{ Operator string } }
		s.eventually("a plan of "+name, func() bool {
			r := s.tool("server/admin", "ninjactl", "path", "plan", request, "--output", "json")
			return r.code == 0 && json.Unmarshal([]byte(r.out), &plan) == nil
		})
		var names []string
		for _, step := range plan.Steps {
			names = append(names, step.Operator)
		}
		if err := s.stop(name); err != nil {
			t.Errorf("stop: %v", err)
		}
		return names
	}
	first := chain("members", "")
	var chosen []string
	for _, name := range first {
		if strings.HasPrefix(name, "speak-") || strings.HasPrefix(name, "resample") {
			chosen = append(chosen, name)
		}
	}
	if len(chosen) < 2 {
		t.Fatalf("the first chain is %v", first)
	}
	second := chain("members", strings.Join(chosen, ", "))
	for _, name := range chosen {
		if slices.Contains(second, name) {
			t.Errorf("%s was taken away, and the chain is %v", name, second)
		}
	}
	if !slices.Contains(second, "recognise") {
		t.Errorf("the second chain is %v", second)
	}
}

// The product's main job on real input: a spoken address comes back as spoken directions, exit 0; one that the map does
// not have is answered correctly, exit 3.
func TestDemo(t *testing.T) {
	m, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/paulmach/osm").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		say    string
		code   int
		answer string
	}{
		{"nine eighty seven dexter corner road", 0, "found: 987 Dexter Corner Road"},
		{"seven thousand seven hundred south college avenue", 3, "unknown: 7700 South College Avenue"},
	} {
		out := filepath.Join(t.TempDir(), "demo")
		cmd := exec.Command(filepath.Join(bin, "demo"), "--map", filepath.Join(strings.TrimSpace(string(m)), "testdata/delaware-latest.osm.pbf"),
			"--say", tc.say, "--out", out, "--hang-up", "at-first-sample")
		b, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != tc.code || !strings.Contains(string(b), tc.answer) {
			t.Errorf("%q: exit %d (%v), want %d and %q\n%s", tc.say, cmd.ProcessState.ExitCode(), err, tc.code, tc.answer, b)
		}
		if wav, err := os.Stat(filepath.Join(out, "heard.wav")); err != nil || wav.Size() < 100 {
			t.Errorf("%q: nothing was recorded: %v", tc.say, err)
		}
	}
}
