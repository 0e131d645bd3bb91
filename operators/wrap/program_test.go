package wrap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// shell is a program that is a shell script, as a node's own list may have it.
func shell(script string, mode Mode) Program {
	return Program{Path: "/bin/sh", Args: []string{"-c", script}, Mode: mode}
}

const reverse = `$|=1; while (read(STDIN,$h,4)==4) { read(STDIN,$b,unpack("N",$h)); print pack("N",length $b), scalar reverse $b }`

func key(name string) map[string]string { return map[string]string{"key": name} }

// "Lines, length-framed, or one process an ADU": the three ways to speak with a program, in order, with marks and times.
func TestProgramsAnswer(t *testing.T) {
	r := newRig(t, Config{Folder: t.TempDir(), Programs: map[string]Program{
		"sort":    {Path: "/usr/bin/sort"},
		"upper":   {Path: "/bin/sed", Args: []string{"-u", "s/.*/\\U&/"}, Mode: Lines},
		"reverse": {Path: "/usr/bin/perl", Args: []string{"-e", reverse}, Mode: Framed},
		"count":   shell("i=0; while read x; do i=$((i+1)); echo $i; done", Lines),
	}})
	open(t, r)
	long := strings.Repeat("x", 300000)
	for _, c := range []struct{ key, requests, want string }{
		{"sort", "b\na\n|2\n1", "a\nb\n|1\n2\n"},
		{"upper", "one|two\r\nthree|", "ONE|TWO  THREE|"},
		{"reverse", "abc||" + long + "y", "cba||y" + long},
		{"count", "a|b|c", "1|2|3"},
	} {
		answers, err := r.run(t, ProgramKey, key(c.key), strings.Split(c.requests, "|")...)
		if got := payloads(answers); err != nil || got != c.want {
			t.Errorf("%s: %.100q %v, want %.100q", c.key, got, err, c.want)
			continue
		}
		for i, a := range answers {
			if a.Mark != connectors.EndOfDocument || a.MediaTime != time.Duration(i+1)*time.Second {
				t.Errorf("%s: answer %d has mark %v and time %v", c.key, i, a.Mark, a.MediaTime)
			}
		}
	}
}

// open lets the user that programs run as reach the folder of the test's wrapper.
func open(t *testing.T, r *rig) {
	t.Helper()
	for d := t.TempDir(); strings.HasPrefix(d, os.TempDir()+"/"); d = d[:strings.LastIndexByte(d, '/')] {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// A wrapped program runs "with limits, no network, own directory": what it finds around it.
func TestProgramsAreKeptApart(t *testing.T) {
	folder := t.TempDir()
	r := newRig(t, Config{Folder: folder, Programs: map[string]Program{
		"look": shell(`id -u; pwd; ls -A | wc -l; env | cut -d= -f1 | sort | tr '\n' ' '; echo
			grep -c : /proc/self/net/dev; grep -q 'NoNewPrivs.*1' /proc/self/status && echo sealed
			ulimit -c; ulimit -f; ulimit -n; ulimit -v; ulimit -t; echo x > made && ls`, Document),
		"lo": {Path: "/usr/bin/perl", Args: []string{"-MSocket", "-e",
			`socket(S,PF_INET,SOCK_DGRAM,0); print connect(S,sockaddr_in(53,inet_aton("127.0.0.1"))) ? "reached" : "no network"`}},
	}})
	open(t, r)
	answers, err := r.run(t, ProgramKey, key("look"), "")
	lines := strings.Split(payloads(answers), "\n")
	if err != nil || len(lines) < 12 {
		t.Fatalf("%q %v", lines, err)
	}
	if os.Geteuid() == 0 && lines[0] != "65534" {
		t.Errorf("it runs as user %s", lines[0])
	}
	if !strings.HasPrefix(lines[1], folder+"/wrapped-") || strings.TrimSpace(lines[2]) != "0" {
		t.Errorf("it runs in %s with %s files", lines[1], lines[2])
	}
	if env := strings.Fields(lines[3]); strings.Join(env, " ") != "HOME LC_ALL PATH PWD TMPDIR" {
		t.Errorf("its environment is %v", env)
	}
	if lines[4] != "1" || lines[5] != "sealed" {
		t.Errorf("interfaces: %s, privileges: %s", lines[4], lines[5])
	}
	if got, want := strings.Join(lines[6:12], " "), fmt.Sprintf("0 %d 64 %d 10 made", 16<<20/512, 512<<10); got != want {
		t.Errorf("limits: %s, want %s", got, want)
	}
	if answers, _ := r.run(t, ProgramKey, key("lo"), ""); payloads(answers) != "no network" {
		t.Errorf("loopback: %s", payloads(answers))
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// Whatever a program does, its request is answered or dropped in time, the next ones are answered, and nothing of it is left.
func TestProgramsMisbehave(t *testing.T) {
	folder := t.TempDir()
	r := newRig(t, Config{Folder: folder, Timeout: 2 * time.Second, Programs: map[string]Program{
		"floods":   shell("yes", Document),
		"hangs":    shell("sleep 1000", Document),
		"fails":    shell("echo 'no such word' >&2; exit 3", Document),
		"eats":     {Path: "/usr/bin/perl", Args: []string{"-e", `$x = "y" x (1 << 30); print "fed"`}},
		"fills":    shell("head -c 100000000 /dev/zero > big; stat -c %s big", Document),
		"daemon":   shell("setsid sleep 1000 & setsid sh -c 'sleep 1000' & echo gone", Document),
		"no ends":  {Path: "/usr/bin/yes", Mode: Framed},
		"one line": {Path: "/bin/sh", Args: []string{"-c", `read x; tr '\0' x < /dev/zero`}, Mode: Lines},
		"dies":     shell("read x; echo once", Lines),
		"is not":   {Path: "/nonexistent/program"},
		"bombs":    shell("f() { f | f & }; f; echo bombed; sleep 0.2", Document),
	}})
	open(t, r)
	for name, want := range map[string]string{
		"floods": "more than", "hangs": "in time", "fails": "exit status 3: no such word", "eats": "", "no ends": "more than",
		"one line": "more than", "is not": "/nonexistent/program",
	} {
		began := time.Now()
		answers, err := r.run(t, ProgramKey, key(name), "x")
		if err != nil || len(answers) != 0 {
			t.Errorf("%s: %d answers (%.40q), %v", name, len(answers), payloads(answers), err)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		select {
		case note := <-r.notes:
			if !strings.Contains(note, want) {
				t.Errorf("%s: %q, want %q", name, note, want)
			}
		default:
			t.Errorf("%s: nothing noted", name)
		}
	}
	if answers, _ := r.run(t, ProgramKey, key("fills"), "x"); strings.TrimSpace(payloads(answers)) != "16777216" && len(answers) != 0 {
		t.Errorf("a file of %s bytes", payloads(answers))
	}
	r.run(t, ProgramKey, key("bombs"), "x")
	if answers, _ := r.run(t, ProgramKey, key("daemon"), "x"); payloads(answers) != "gone\n" {
		t.Errorf("daemon: %q", payloads(answers))
	}
	if n := running(t, "sleep\x001000"); n != 0 {
		t.Errorf("%d processes outlive their program", n)
	}
	if answers, err := r.run(t, ProgramKey, key("dies"), "a", "b", "c"); payloads(answers) != "once|once|once" || err != nil {
		t.Errorf("dies after each answer: %q %v", payloads(answers), err)
	}
	if _, err := r.run(t, ProgramKey, key("fails"), "1", "2", "3", "4", "5", "6"); err == nil || !strings.Contains(err.Error(), "5 requests in a row") {
		t.Errorf("always fails: %v", err)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// running counts the processes whose command line contains something.
func running(t *testing.T, what string) (n int) {
	t.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		b, err := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		if err == nil && strings.Contains(string(b), what) {
			n++
		}
	}
	return n
}

// A node that is killed leaves no programs behind. The node is this test in a process of its own.
func TestProgramsEndWithTheirNode(t *testing.T) {
	if seconds := os.Getenv("NINJA_TEST_NODE"); seconds != "" {
		r := newRig(t, Config{Programs: map[string]Program{"deaf": shell("exec sleep "+seconds, Lines)}, Timeout: time.Minute})
		r.run(t, ProgramKey, key("deaf"), "a")
		return
	}
	seconds := fmt.Sprint(100_000 + rand.IntN(1_000_000)) // tells the program from those of other runs
	node := exec.Command(os.Args[0], "-test.run", "^TestProgramsEndWithTheirNode$")
	node.Env = append(os.Environ(), "NINJA_TEST_NODE="+seconds)
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	until := func(n int) bool {
		for end := time.Now().Add(20 * time.Second); running(t, "sleep\x00"+seconds) != n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	if !until(1) {
		t.Error("the program does not run")
	}
	if err := node.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = node.Wait()
	if !until(0) {
		t.Error("the program outlives its node")
	}
}

// An operator that was made and never run has started nothing, and closing it is enough.
func TestMakingStartsNothing(t *testing.T) {
	folder := t.TempDir()
	r := newRig(t, Config{Folder: folder, Programs: map[string]Program{"cat": {Path: "/bin/cat", Mode: Lines}}})
	op, err := r.make(ProgramKey, key("cat"))
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(folder); len(left) != 0 {
		t.Error("a folder was made")
	}
	op.(interface{ Close() error }).Close()
}

// "Fuzzed descriptions start nothing": whatever a description says, what is made of it is in the node's list or nothing.
func FuzzDescriptionsStartNothing(f *testing.F) {
	for _, file := range []string{"program.xml", "http.xml", "grpc.xml"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, bad := range []string{"/bin/sh", "../sort", "sort;reboot", "$(reboot)", "sort\x00", "SORT", " sort", "sort -o x"} {
		f.Add(fmt.Appendf(nil, `<service xmlns="urn:ninja:service:1" kind="operator" name="x"><node control="a:1" data="a:2"/>`+
			`<operator name="x" program="wrap-program"><in>text/plain</in><out>text/plain</out><cost cpu="1" latency="1ms" memory="1"/>`+
			`<arg name="key" value="%s"/></operator></service>`, bad))
	}
	folder := f.TempDir()
	r := newRig(f, Config{Folder: folder, Programs: map[string]Program{"sort": {Path: "/usr/bin/sort"}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := operators.ParseDescription(b)
		if err != nil {
			return
		}
		for _, s := range d.Operators {
			args := map[string]string{}
			for _, a := range s.Args {
				args[a.Name] = a.Value
			}
			op, err := r.make(s.Program, args)
			if err != nil {
				continue
			}
			if s.Program == ProgramKey && (args["key"] != "sort" || len(args) != 1) {
				t.Errorf("%v was made", args)
			}
			if w := op.(*wrapped); s.Program == ProgramKey && w.service.(*documents).program.Path != "/usr/bin/sort" {
				t.Errorf("%v would start %s", args, w.service.(*documents).program.Path)
			}
			op.(*wrapped).Close()
		}
		if left, _ := os.ReadDir(folder); len(left) != 0 || r.dials.Load() != 0 {
			t.Error("something was started or dialled")
		}
	})
}

// Threat 17 at the full count: "fuzzed descriptions start nothing". Descriptions of all three kinds, mutated, and spliced
// with what has started programs elsewhere, are read and made; nothing is started or dialled, and what is made of them is
// what the node's list says.
func TestMutatedDescriptionsStartNothing(t *testing.T) {
	var seeds [][]byte
	for _, file := range []string{"program.xml", "http.xml", "grpc.xml"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, b)
	}
	nasty := []string{"/bin/sh", "sort", "wrap-program", "wrap-http", `"/><arg name="key" value="sh`, `"/><arg name="key" value="sort"/><arg name="args" value="-o/tmp/x`,
		"../sort", "sort;reboot", "$(reboot)", "`reboot`", "sort\x00", "&#0;", "&#10;reboot", "file:///bin/sh", "http://127.0.0.1/", "unix:///run/x", "dns:///x", "key", "url",
		"address", "method", "<arg", "/>", "</operator>", "SORT", "s\u043ert", "passthrough:///127.0.0.1:1"}
	folder := t.TempDir()
	r := newRig(t, Config{Folder: folder, Programs: map[string]Program{"sort": {Path: "/usr/bin/sort"}}})
	rng := rand.New(rand.NewPCG(17, 17))
	n, read, made := prove(2000), 0, 0
	for range n {
		b := bytes.Clone(seeds[rng.IntN(len(seeds))])
		for range 1 + rng.IntN(4) {
			at := rng.IntN(len(b) + 1)
			switch rng.IntN(4) {
			case 0: // another value for something
				if values := quoted.FindAllIndex(b, -1); len(values) > 0 {
					v := values[rng.IntN(len(values))]
					b = slices.Concat(b[:v[0]+1], []byte(nasty[rng.IntN(len(nasty))]), b[v[1]-1:])
				}
			case 1:
				b = slices.Concat(b[:at], []byte(nasty[rng.IntN(len(nasty))]), b[at:])
			case 2:
				if at < len(b) {
					b[at] = byte(rng.Uint32())
				}
			case 3:
				b = slices.Concat(b[:at], b[min(len(b), at+rng.IntN(20)):])
			}
		}
		var specs []operators.Spec
		if d, err := operators.ParseDescription(b); err == nil {
			specs = d.Operators
		}
		if s, err := operators.ParseSpec(b); err == nil {
			specs = append(specs, *s)
		}
		read += min(len(specs), 1)
		for _, s := range specs {
			args := map[string]string{}
			for _, a := range s.Args {
				args[a.Name] = a.Value
			}
			op, err := r.make(s.Program, args)
			if err != nil {
				continue
			}
			made++
			if d, ok := op.(*wrapped).service.(*documents); ok && (d.program.Path != "/usr/bin/sort" || len(d.program.Args) != 0) {
				t.Errorf("%s\nwould start %v", b, d.program)
			}
			op.(*wrapped).Close()
		}
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 0 || r.dials.Load() != 0 {
		t.Errorf("%d programs were started, %d connections dialled (%v)", len(left), r.dials.Load(), err)
	}
	if read < n/20 || made == 0 || made == read {
		t.Errorf("%d of %d were descriptions, %d were made: the test says little", read, n, made)
	}
	t.Logf("PROVE %d mutated descriptions, %d of them readable, %d operators made of them: %d programs started, %d connections", n, read, made, len(left), r.dials.Load())
}

var quoted = regexp.MustCompile(`"[^"]*"`)

// prove scales a count: NINJA_PROVE=1 with NINJA_PROVE_SCALE runs the full one.
func prove(n int) int {
	if scale, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); err == nil && scale > 0 && os.Getenv("NINJA_PROVE") != "" {
		return n * scale
	}
	return n
}

// What a service answers is read within its bounds.
func FuzzField1(f *testing.F) {
	f.Add([]byte{10, 3, 'a', 'b', 'c'})
	f.Add(binary.BigEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := field1(b); err == nil && len(v) > len(b) {
			t.Errorf("%d bytes out of %d", len(v), len(b))
		}
	})
}
