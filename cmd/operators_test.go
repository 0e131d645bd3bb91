package cmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// open lets programs, which run as nobody when the daemon is root, enter the test's folder.
func (s *system) open() {
	s.t.Helper()
	for dir := s.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
}

// overheard is what a program in the background says.
type overheard struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *overheard) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *overheard) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// background runs a tool until the test ends or stop is called, which interrupts it and returns its exit.
func (s *system) background(home string, args ...string) (said *overheard, stop func() error) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, args[0]), args[1:]...)
	cmd.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, home))
	said = &overheard{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() { _ = cmd.Process.Signal(os.Interrupt); err = cmd.Wait() })
		return err
	}
	s.t.Cleanup(func() { _ = stop() })
	return said, stop
}

// step is what a path's step has let through.
type step struct {
	Operator string
	In       uint64 `json:"adus_in"`
	Out      uint64 `json:"adus_out"`
}

// path makes a path and waits until an operator in it has let something through; it returns the steps, and takes it down.
func (s *system) path(home, request, operator string, least uint64) []step {
	s.t.Helper()
	var made struct{ Path string }
	s.eventually("a plan for "+request, func() bool { return s.tool(home, "ninjactl", "path", "plan", request).code == 0 })
	if err := json.Unmarshal([]byte(s.must(home, "ninjactl", "path", "create", request, "--output", "json")), &made); err != nil {
		s.t.Fatal(err)
	}
	var info struct {
		State, Why string
		Steps      []step
	}
	s.eventually(operator+" lets something through", func() bool {
		if err := json.Unmarshal([]byte(s.must(home, "ninjactl", "path", "show", made.Path, "--output", "json")), &info); err != nil {
			s.t.Fatal(err)
		}
		if info.State == "failed" {
			s.t.Fatalf("the path failed: %s", info.Why)
		}
		for _, x := range info.Steps {
			if x.Operator == operator && x.Out >= least {
				return true
			}
		}
		return false
	})
	s.tool(home, "ninjactl", "path", "delete", made.Path)
	return info.Steps
}

// An author's whole way, in both languages, for text and for sound: a skeleton, a check that passes, mistakes that are
// named in a sentence, publication at a proxy that has the program on its list, a path that it is found for by its types,
// and data through it.
func TestAnAuthorsWay(t *testing.T) {
	s := newSystem(t)
	s.open()
	in := func(name string) string { return filepath.Join(s.dir, name) }
	edit := func(file, from, to string) (undo func()) {
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), from) {
			t.Fatalf("%s has no %q (%v)", file, from, err)
		}
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(b), from, to)), 0o644); err != nil {
			t.Fatal(err)
		}
		return func() { _ = os.WriteFile(file, b, 0o644) }
	}
	for name, flags := range map[string][]string{"shout": {"--lang", "python", "--flows", "text"}, "quiet": {"--lang", "python", "--flows", "audio"},
		"roar": {"--lang", "go", "--flows", "text"}, "hush": {"--lang", "go", "--flows", "audio"}} {
		s.must("nobody", append([]string{"ninjactl", "operator", "init", name, "--dir", in(name)}, flags...)...)
		if said := s.must("nobody", "ninjactl", "operator", "check", in(name)); !strings.Contains(said, name+" does what its description says") {
			t.Errorf("%s: %s", name, said)
		}
		b, err := os.ReadFile(filepath.Join(in(name), "operator.xml"))
		if err != nil || bytes.Count(b, []byte("\n")) > 20 {
			t.Errorf("%s is described in %d lines (%v)", name, bytes.Count(b, []byte("\n")), err)
		}
	}
	if r := s.tool("nobody", "ninjactl", "operator", "init", "shout", "--dir", in("shout")); r.code == 0 || !strings.Contains(r.err, "folder of its own") {
		t.Errorf("twice: %+v", r)
	}
	for _, c := range []struct{ file, from, to, want string }{
		{"shout/shout.py", "text.upper()", "'HELLO'", "3 different requests had the same answer"},
		{"shout/shout.py", "text.upper()", "text.uper()", "has no attribute 'uper'"},
		{"shout/shout.py", ", flush=True", "", "flush its output after each?"},
		{"shout/shout.py", "    return", "    __import__('time').sleep(0.4)\n    return", "latency"},
		{"shout/shout.py", "import sys", "import sys; hoard = b'x' * 100_000_000", "MiB where 64.0 MiB is declared"},
		{"shout/operator.xml", "lang=$l;style=shout</out>", "lang=fr;style=shout</out>", "lang fr offered by shout, en wanted by judge"},
		{"shout/operator.xml", "<in>text/plain;lang=$l", "<in>audio/L16;rate=8000", "text/plain offered by samples, audio/L16 wanted by shout"},
		{"shout/operator.xml", `value="shout"`, `value="sh"`, `names the program "sh"`},
		{"shout/program.yaml", "mode: lines", "mode: shell", `line 4: program: mode: "shell" is not one of`},
		{"quiet/quiet.py", "for s in samples]", "for s in samples[::2]]", "of 0.50 s of sound it makes 0.25 s"},
		{"hush/main.go", "sample / 2", "sample / two", "undefined: two"},
	} {
		undo := edit(in(c.file), c.from, c.to)
		if r := s.tool("nobody", "ninjactl", "operator", "check", in(filepath.Dir(c.file))); r.code == 0 || !strings.Contains(r.err, c.want) {
			t.Errorf("%s for %s: exit %d, %s%s; want %q", c.to, c.from, r.code, r.out, r.err, c.want)
		}
		undo()
	}
	s.must("nobody", "ninjactl", "operator", "check", "--write", in("shout"))

	// The owner of the types keeps samples of their own, which no author sees.
	samples := in("samples")
	if err := os.Mkdir(samples, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(samples, "shout.xml"), `<samples xmlns="urn:ninja:samples:1" judge="exact"><in>text/plain;lang=en</in><out>text/plain;lang=en;style=shout</out>
		<sample><give>a secret of the owner</give><want>A SECRET OF THE OWNER</want></sample><sample><give>two</give><want>TWO</want></sample></samples>`)
	s.author(in, samples, edit)
}

// author is the second half: publication and paths.
func (s *system) author(in func(string) string, samples string, edit func(file, from, to string) func()) {
	t := s.t
	question := in("ask.wav")
	if out, err := exec.Command("flite", "-voice", "rms", "-t", "what time is it in tokyo", "-o", question).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v %s", err, out)
	}
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := func(principal string) string { return s.must("server/admin", "ninjactl", "token", "--for", principal) }
	acl := "acl: ['everyone: find, use, listen-from, send-to']"
	programs := ""
	for _, name := range []string{"shout", "quiet", "roar", "hush"} {
		b, err := os.ReadFile(filepath.Join(in(name), "program.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(strings.ReplaceAll(string(b), "./", in(name)+"/")), "\n") {
			programs += "      " + line + "\n"
		}
	}
	s.run("members", fmt.Sprintf("roles:\n  proxy:\n    name: p\n    join: %q\n    samples: %s\n    examine: 2s\n    publishers: [spiffe://test.ninja/user/ann]\n    %s\n    programs:\n%s"+
		"  base: {name: b, join: %q, services: [{component: time-of-day, name: clock, %s}]}\n  unit: {name: u, join: %q, microphone: %s, hang-up: never, %s}\n",
		token("proxy/p"), samples, acl, programs, token("base/b"), acl, token("unit/u"), question, acl))
	ann, bob := s.user("server/admin", "ann"), s.user("server/admin", "bob")

	if r := s.tool(bob, "ninjactl", "operator", "publish", in("shout")); r.code == 0 || !strings.Contains(r.err, "you are not among its publishers") {
		t.Errorf("bob publishes: %+v", r)
	}
	undo := edit(in("shout/operator.xml"), `value="shout"`, `value="other"`)
	if r := s.tool(ann, "ninjactl", "operator", "publish", "--unchecked", in("shout")); r.code == 0 || !strings.Contains(r.err, `no program "other" on its list`) {
		t.Errorf("a program of no list: %+v", r)
	}
	undo()
	undo = edit(in("shout/shout.py"), "text.upper()", "text")
	r := s.tool(ann, "ninjactl", "operator", "publish", "--unchecked", in("shout"))
	if r.code == 0 || !strings.Contains(r.err, "quality 0.00 where") || strings.Contains(r.out+r.err, "secret") {
		t.Errorf("an operator that lies: %+v", r)
	}
	undo()

	said := make(map[string]*overheard)
	stop := make(map[string]func() error)
	for _, name := range []string{"shout", "quiet", "roar", "hush"} {
		said[name], stop[name] = s.background(ann, "ninjactl", "operator", "publish", in(name))
		s.eventually(name+" is published", func() bool { return strings.Contains(said[name].String(), "is published") })
	}
	if !strings.Contains(said["shout"].String(), "2 samples: quality 1.00") || !strings.Contains(said["roar"].String(), "unexamined") {
		t.Errorf("shout: %s\nroar: %s", said["shout"], said["roar"])
	}
	for _, name := range []string{"shout", "roar"} {
		steps := s.path("server/admin", "phone:u ! ?time-of-day ! operator:operator."+name+" ! phone:u", name, 1)
		if len(steps) < 6 {
			t.Errorf("the path through %s: %+v", name, steps)
		}
	}
	for _, name := range []string{"quiet", "hush"} {
		s.path("server/admin", "phone:u ! operator:operator."+name+" ! phone:u", name, 20)
	}

	// It turns bad in service: it is withdrawn, and its author is told why.
	if list := s.must(ann, "ninjactl", "operator", "list"); !strings.Contains(list, "published") || strings.Contains(list, "withdrawn") {
		t.Errorf("list:\n%s", list)
	}
	edit(in("shout/shout.py"), "text.upper()", "'BUY MORE'")
	s.eventually("shout is withdrawn", func() bool {
		return strings.Contains(said["shout"].String(), "is withdrawn: examined in service, it failed")
	})
	if err := stop["shout"](); err == nil {
		t.Error("publish of a withdrawn operator ends well")
	}
	if list := s.must(ann, "ninjactl", "operator", "list"); !strings.Contains(list, "withdrawn") || !strings.Contains(list, "same answer") {
		t.Errorf("list:\n%s", list)
	}
	s.eventually("paths do not find it any more", func() bool {
		return s.tool("server/admin", "ninjactl", "path", "plan", "phone:u ! ?time-of-day ! operator:operator.shout ! phone:u").code != 0
	})
	// Its author takes one back: it is gone.
	if err := stop["roar"](); err != nil {
		t.Errorf("taking roar back: %v: %s", err, said["roar"])
	}
	s.eventually("roar is gone", func() bool { return s.tool(ann, "sdsquery", "kind=operator", "name=operator.roar").code == 1 })
}

// upper is a gRPC service that knows nothing of paths.
func upper(t *testing.T) (address string, calls *overheard) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = &overheard{}
	g := grpc.NewServer()
	g.RegisterService(&grpc.ServiceDesc{ServiceName: "text.v1.Case", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Upper",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in wrapperspb.StringValue
			if err := decode(&in); err != nil {
				return nil, err
			}
			fmt.Fprintln(calls, in.Value)
			return wrapperspb.String(strings.ToUpper(in.Value)), nil
		},
	}}}, nil)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return l.Addr().String(), calls
}

// A program, an HTTP service and a gRPC service that know nothing of paths, each described in a few lines of XML in the
// folder that the daemon's file names, each carry data in a path.
func TestWrappedServicesCarryData(t *testing.T) {
	s := newSystem(t)
	var asked overheard
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		fmt.Fprintln(&asked, r.Header.Get("Content-Type"), body.String())
		_, _ = w.Write(bytes.ReplaceAll(body.Bytes(), []byte("time"), []byte("hour")))
	}))
	defer web.Close()
	address, calls := upper(t)
	folder := filepath.Join(s.dir, "operators")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, wraps := range map[string]string{
		"sorted": `program="wrap-program"> <arg name="key" value="sort"/>`,
		"hours":  `program="wrap-http"> <arg name="url" value="` + web.URL + `/hours"/>`,
		"loud":   `program="wrap-grpc"> <arg name="address" value="` + address + `"/> <arg name="method" value="/text.v1.Case/Upper"/> <arg name="message" value="string"/> <arg name="tls" value="no"/>`,
	} {
		write(t, filepath.Join(folder, name+".xml"), `<operator xmlns="urn:ninja:service:1" name="`+name+`" `+wraps+`
  <in>text/plain;lang=$l</in>
  <out>text/plain;lang=$l;style=`+name+`</out>
  <cost cpu="0.01" latency="50ms" memory="4194304" quality="1"/>
</operator>`)
	}
	question := filepath.Join(s.dir, "ask.wav")
	if out, err := exec.Command("flite", "-voice", "rms", "-t", "what time is it in tokyo", "-o", question).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v %s", err, out)
	}
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := func(principal string) string { return s.must("server/admin", "ninjactl", "token", "--for", principal) }
	acl := "acl: ['everyone: find, use, listen-from, send-to']"
	s.run("members", fmt.Sprintf("roles:\n  proxy:\n    name: p\n    join: %q\n    operators: %s\n    reach: [127.0.0.0/8]\n    %s\n    programs:\n      sort: {command: [/usr/bin/sort, -r]}\n"+
		"  base: {name: b, join: %q, services: [{component: time-of-day, name: clock, %s}]}\n  unit: {name: u, join: %q, microphone: %s, hang-up: never, %s}\n",
		token("proxy/p"), folder, acl, token("base/b"), acl, token("unit/u"), question, acl))
	for _, name := range []string{"sorted", "hours", "loud"} {
		s.path("server/admin", "phone:u ! ?time-of-day ! operator:operator."+name+" ! phone:u", name, 1)
	}
	if !strings.Contains(asked.String(), "text/plain") || !strings.Contains(asked.String(), "Tokyo") {
		t.Errorf("the HTTP service was asked %q", asked.String())
	}
	if !strings.Contains(calls.String(), "Tokyo") {
		t.Errorf("the gRPC service was asked %q", calls.String())
	}
	// The same operators at a proxy whose file does not let services be on loopback: they are published, and dial nothing.
	if x := s.tool("server/admin", "sdsquery", "--output", "xml", "kind=operator", "name=operator.hours"); strings.Contains(x.out, web.URL) {
		t.Errorf("the address of a wrapped service is published: %s", x.out)
	}
}
