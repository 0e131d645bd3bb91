package cmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serving is a server without creator, in files.
func serving(s *system, more string) {
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n%s", s.group, s.port+1, more))
}

// publishing runs ninjactl publish in somebody's name until the test ends.
func (s *system) publishing(who, name, description string, args ...string) (file string, said func() string) {
	s.t.Helper()
	file = filepath.Join(s.dir, name+".xml")
	write(s.t, file, description)
	log, err := os.Create(filepath.Join(s.dir, name+".publish.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "ninjactl"), append([]string{"publish", "--name", name, file}, args...)...)
	cmd.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, who))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
	})
	said = func() string {
		b, _ := os.ReadFile(log.Name())
		return string(b)
	}
	s.eventually(name+" is published", func() bool { return strings.Contains(said(), "is published") })
	return file, said
}

// page gets a page.
func (s *system) page(url string) string {
	s.t.Helper()
	r, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || r.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: status %d, %v: %s", url, r.StatusCode, err, b)
	}
	return string(b)
}

// Prometheus asks the door, and is told of what the door's own principal may find.
func TestPrometheusFindsTargets(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	serving(s, "  httpsd: {name: prometheus, listen: '127.0.0.1:0', find: [kind=web]}\n")
	var ready map[string]string
	b, err := os.ReadFile(filepath.Join(s.dir, "server.ready"))
	if err != nil || json.Unmarshal(b, &ready) != nil {
		t.Fatal(err, string(b))
	}
	targets := func() string { return s.page("http://" + ready["httpsd"] + "/targets") }
	ann := s.user("server/admin", "ann")
	s.publishing(ann, "shop", `<service xmlns="urn:ninja:service:1" kind="web" name="shop"><metrics address="10.1.2.3:9100" path="/m"/></service>`)
	if got := targets(); got != "[]" {
		t.Errorf("a hidden service is a target: %s", got)
	}
	s.must(ann, "ninjactl", "acl", "grant", "shop", "spiffe://test.ninja/base/prometheus", "find")
	s.eventually("the shop is a target", func() bool { return strings.Contains(targets(), "10.1.2.3:9100") })
	var groups []struct {
		Targets []string
		Labels  map[string]string
	}
	if err := json.Unmarshal([]byte(targets()), &groups); err != nil {
		t.Fatal(err)
	}
	if l := groups[0].Labels; l["__metrics_path__"] != "/m" || l["__meta_ninja_attribute_kind"] != "web" || l["__meta_ninja_owner"] != "spiffe://test.ninja/user/ann" {
		t.Errorf("labels %v", l)
	}
}

// A description that breaks the schema it claims is refused, naming line, element and rule; versions stand beside each
// other, and all of it holds over a restart.
func TestSchemasByHand(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	files := t.TempDir()
	write(t, filepath.Join(files, "printer-1.dtd"), `<!ELEMENT service (summary?, floor)><!ATTLIST service kind CDATA #REQUIRED name CDATA #IMPLIED>
<!ELEMENT summary (#PCDATA)><!ELEMENT floor (#PCDATA)>`)
	config := fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s, schemas: [%s]}\n", s.group, s.port+1, files)
	s.run("server", config)
	admin := "server/admin"
	ann := s.user(admin, "ann")
	description := func(version, content string) string {
		return fmt.Sprintf("<service xmlns=\"urn:ninja:service:1\" xmlns:s=\"urn:ninja:schema:1\" s:schema=\"printer/%s\"\n kind=\"printer\">\n%s</service>", version, content)
	}
	bad := filepath.Join(s.dir, "bad.xml")
	write(t, bad, description("1", "  <floor>2</floor>\n  <paper>A4</paper>\n"))
	for _, command := range [][]string{{"publish", bad}, {"schema", "check", bad}} {
		began := time.Now()
		r := s.tool(ann, append([]string{"ninjactl"}, command...)...)
		for _, want := range []string{"line 4: <paper>: the schema declares no such element", "printer/1"} {
			if r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%v: exit %d, %s; want %q", command, r.code, r.err, want)
			}
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%v took %v to be refused", command, took)
		}
	}
	// The next version has the element. Who is not named may not register it.
	next := filepath.Join(s.dir, "printer-2.dtd")
	write(t, next, `<!ELEMENT service (summary?, floor, paper)><!ATTLIST service kind CDATA #REQUIRED name CDATA #IMPLIED>
<!ELEMENT summary (#PCDATA)><!ELEMENT floor (#PCDATA)><!ELEMENT paper (#PCDATA)>`)
	if r := s.tool(ann, "ninjactl", "schema", "register", next); r.code == 0 || !strings.Contains(r.err, "may not register schemas") {
		t.Errorf("ann registers a schema: %+v", r)
	}
	s.must(admin, "ninjactl", "schema", "register", next)
	if list := s.must(ann, "ninjactl", "schema", "list"); !strings.Contains(list, "printer/1") || !strings.Contains(list, "printer/2") {
		t.Errorf("list:\n%s", list)
	}
	if shown := s.must(ann, "ninjactl", "schema", "show", "printer"); !strings.Contains(shown, "<!ELEMENT paper") {
		t.Errorf("the newest: %s", shown)
	}
	file, said := s.publishing(ann, "laser", description("2", "  <floor>2</floor>\n  <paper>A4</paper>\n"), "--watch")
	found := func(term string) func() bool {
		return func() bool { return s.tool(ann, "sdsquery", "kind=printer", term).code == 0 }
	}
	// What is wrong when the file changes is told, and what was published stays.
	write(t, file, description("2", "  <paper>A4</paper>\n"))
	s.eventually("the change is refused", func() bool { return strings.Contains(said(), "line 3: <paper>: it may not stand here in <service>") })
	if !found("floor=2")() {
		t.Error("the refused change took the service away")
	}
	write(t, file, description("2", "  <floor>3</floor>\n  <paper>A4</paper>\n"))
	s.eventually("the corrected change is found", found("floor=3"))
	// What was registered over the network is there after a crash, or nothing that claims it would come back.
	s.kill("server")
	s.run("server", config)
	s.eventually("the printer is back", found("floor=3"))
	if list := s.must(ann, "ninjactl", "schema", "list", "--output", "json"); !strings.Contains(list, `"version":2`) {
		t.Errorf("after a restart: %s", list)
	}
}

// Groups and named numbers by hand: what is granted to a group its members have, for as long as they are.
func TestGroupsAndNumbers(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	serving(s, "")
	admin := "server/admin"
	ann, bob := s.user(admin, "ann"), s.user(admin, "bob")
	numbers := filepath.Join(s.dir, "numbers")
	write(t, numbers, "queue=3\n")
	s.publishing(ann, "laser", `<service kind="printer"/>`, "--numbers", numbers)
	found := func(args ...string) bool {
		return s.tool(bob, append([]string{"sdsquery", "kind=printer"}, args...)...).code == 0
	}
	s.must(ann, "ninjactl", "acl", "grant", "laser", "group:staff", "find")
	if list := s.must(ann, "ninjactl", "acl", "list"); !strings.Contains(list, "#laser\n  group:staff  find") {
		t.Errorf("acl list:\n%s", list)
	}
	s.must(admin, "ninjactl", "group", "add", "staff", "spiffe://test.ninja/user/cy", "spiffe://test.ninja/user/bob")
	s.eventually("bob finds it as one of the staff", func() bool { return found() })
	if list := s.must(admin, "ninjactl", "group", "list", "--output", "json"); !strings.Contains(list, `{"name":"staff","members":2}`) {
		t.Errorf("group list: %s", list)
	}
	s.must(admin, "ninjactl", "group", "remove", "staff", "spiffe://test.ninja/user/bob")
	s.eventually("bob is no longer one of the staff", func() bool { return !found() })
	s.must(ann, "ninjactl", "acl", "grant", "laser", "spiffe://test.ninja/user/bob", "find")
	s.eventually("bob finds it himself", func() bool { return found() })

	queue := func(want string) func() bool {
		return func() bool {
			return strings.Contains(s.tool(bob, "sdsquery", "-c", "queue", "kind=printer").out, "queue="+want)
		}
	}
	s.eventually("the queue is told", queue("3"))
	write(t, numbers, "queue=7\n")
	s.eventually("another queue is told", queue("7"))
}

// Where there is no multicast the same is said by unicast: daemons and tools ask the server for what it announces.
func TestWithoutMulticast(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	udp := fmt.Sprintf("127.0.0.1:%d", s.port)
	config := fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {udp: '%s', period: 1s}\n", udp)
	s.runOn("server", "{group: none}", config)
	admin := "server/admin"
	token := s.must(admin, "ninjactl", "token", "--for", "unit/u")
	s.runOn("unit", fmt.Sprintf("{server: '%s'}", udp), fmt.Sprintf("roles:\n  unit: {name: u, join: %q, acl: ['everyone: find']}\n", token))
	s.must("ann", "ninjactl", "join", s.must(admin, "ninjactl", "token", "--for", "user/ann"), "--server", udp)
	found := func() bool { return s.tool("ann", "sdsquery", "kind=phone").code == 0 }
	s.eventually("the telephone is found", found)
	s.publishing("ann", "laser", `<service kind="printer"/>`)
	s.kill("server")
	s.runOn("server", "{group: none}", config)
	s.eventually("both are back after a restart", func() bool { return found() && s.tool("ann", "sdsquery", "kind=printer").code == 0 })
}

// insideAvahi is set in the process that runs beside an avahi-daemon.
const insideAvahi = "NINJA_CMD_INSIDE"

// A printer that a desktop advertises is found in the SDS, and a chosen service is seen by desktops. Avahi, server and
// door run in a network namespace of their own.
func TestDNSSD(t *testing.T) {
	if os.Getenv(insideAvahi) != "" {
		testDNSSD(t)
		return
	}
	t.Parallel()
	namespaces := []string{"--net", "--mount"}
	if out, err := exec.CommandContext(t.Context(), "unshare", append(namespaces, "true")...).CombinedOutput(); err != nil {
		t.Logf("only root may make the namespaces that Avahi runs in here, so it is not asked: %s", out)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("../sds/dnssd/testdata/avahi.sh")
	if err != nil {
		t.Fatal(err)
	}
	args := append(namespaces, "--pid", "--mount-proc", "--fork", "--kill-child", script, t.TempDir(), exe, "-test.run=^TestDNSSD$", "-test.v")
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), insideAvahi+"="+bin)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if t.Logf("%s", out); err != nil || !bytes.Contains(out, []byte("PASS: TestDNSSD")) {
		t.Error(err)
	}
}

func testDNSSD(t *testing.T) {
	s := newSystem(t)
	serving(s, `  dnssd:
    via: 10.77.0.1
    import: [{type: _ipp._tcp, kind: printer}]
    export: [{type: _http._tcp, find: [kind=web], address: http/@address}]
`)
	ann := s.user("server/admin", "ann")
	printer := exec.CommandContext(t.Context(), "avahi-publish", "-s", "Office 2.0", "_ipp._tcp", "631", "rp=ipp/print", "Color=T")
	if err := printer.Start(); err != nil {
		t.Fatal(err)
	}
	found := func() bool {
		return strings.Contains(s.tool(ann, "sdsquery", "--output", "xml", "kind=printer").out, `<txt key="rp">ipp/print</txt>`)
	}
	s.eventually("the printer is found", found)
	table := s.must(ann, "sdsquery", "-c", "dnssd/@port", "kind=printer", "origin=mdns")
	if t.Log(table); !strings.Contains(table, "base/dnssd") || !strings.Contains(table, "631") {
		t.Errorf("the printer in a table:\n%s", table)
	}

	browse := func() string {
		out, _ := exec.CommandContext(t.Context(), "avahi-browse", "-rtpk", "_http._tcp").CombinedOutput()
		return string(out)
	}
	s.publishing(ann, "site", `<service xmlns="urn:ninja:service:1" kind="web" name="site"><http address="10.77.0.9:8080"/></service>`)
	if got := browse(); strings.Contains(got, "10.77.0.9") {
		t.Errorf("a hidden service is shown on the link: %s", got)
	}
	s.must(ann, "ninjactl", "acl", "grant", "site", "spiffe://test.ninja/base/dnssd", "find")
	s.eventually("the site is seen by avahi-browse", func() bool {
		got := browse()
		if strings.Contains(got, "10.77.0.9;8080;") {
			t.Log(got)
			return true
		}
		return false
	})
	if err := printer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = printer.Wait()
	s.eventually("the printer is gone", func() bool { return !found() })
}
