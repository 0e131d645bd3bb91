package cmd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ninja/cmd/home"
	"ninja/internal/world"
	"ninja/internal/world/relay"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/route"
	"ninja/sds/tree"
)

// insideTree is set in the process that runs in the network namespace of TestThirteenServers.
const insideTree = "NINJA_CMD_TREE"

// Thirteen servers in three levels, each a process with services of its own, links that delay: every reachable match is
// found and every unreachable branch is named while a packet filter parts them, all is found again within three periods of
// healing, and kill -9 of a server loses nothing that is announced.
func TestThirteenServers(t *testing.T) {
	if os.Getenv(insideTree) != "" {
		testThirteenServers(t)
		return
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", "--net", "true").CombinedOutput(); err != nil {
		t.Logf("only root may make a network namespace, so the relays alone part the servers: %s", out)
		testThirteenServers(t)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--net", "--pid", "--mount-proc", "--fork", "--kill-child", exe, "-test.run=^TestThirteenServers$", "-test.v"}
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.Env = append(os.Environ(), insideAvahi+"="+bin, insideTree+"=1")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if t.Logf("%s", out); err != nil || !strings.Contains(string(out), "PASS: TestThirteenServers") {
		t.Error(err)
	}
}

// forest is the system with its servers.
type forest struct {
	*system
	names   []string
	parent  map[string]string
	address map[string]string
	config  map[string]string
	relays  map[string]*relay.Relay // between a server and its parent
	fronts  map[string]string       // where a server reaches its parent
	clients map[string]*tree.Client
}

const (
	treePeriod = time.Second // of links, as the daemon has it
	lampsEach  = 3
)

func testThirteenServers(t *testing.T) {
	if os.Getenv(insideTree) != "" {
		for _, c := range []string{"ip link set lo up", "ip link set lo multicast on", "ip route add 239.0.0.0/8 dev lo"} {
			if out, err := exec.Command("sh", "-c", c).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", c, err, out)
			}
		}
	}
	f := plantForest(t)
	all := f.lampsOf(f.names...)
	f.within(20*time.Second, "everything is found everywhere", func() string {
		for _, at := range []string{"root", "m1", "l00", "l22"} {
			if got := f.find(at, "lamp"); got.names != all || !got.complete {
				return fmt.Sprintf("at %s: %s\n%v", at, got.names, got.outcomes)
			}
		}
		return ""
	})
	// Summaries are as old as a period or two: then what one leaf alone has is looked for there alone.
	f.within(10*time.Second, "other branches are ruled out", func() string {
		got := f.find("l00", "only-l21")
		if got.names == "only-l21" && got.outcomes["m1"] == "pruned" && got.outcomes["l22"] == "pruned" && got.outcomes["m2"] == "searched" {
			return ""
		}
		return fmt.Sprint(got)
	})
	f.part(all)
	victims := []string{"l11", "m2"}
	if proving() {
		victims = f.names
	}
	for _, name := range victims {
		f.killed(name, all)
	}
}

// part cuts m0 off the root, with all below it.
func (f *forest) part(all string) {
	inside, outside := f.lampsOf("m0", "l00", "l01", "l02"), f.lampsOf(slices.DeleteFunc(slices.Clone(f.names), func(n string) bool { return n == "m0" || strings.HasPrefix(n, "l0") })...)
	heal := f.filter("m0")
	begun := time.Now()
	f.within(8*treePeriod, "both sides name the other", func() string {
		a, b := f.find("l01", "lamp"), f.find("l12", "lamp")
		// At every moment: what is reachable is found, and an answer that lacks something says so.
		for _, x := range []struct {
			got       finding
			reachable string
		}{{a, inside}, {b, outside}} {
			if missing := without(x.reachable, x.got.names); missing != "" || x.got.names != all && x.got.complete {
				f.t.Errorf("%v after the cut: reachable and not found: %q; found %q, said to be complete: %v", time.Since(begun), missing, x.got.names, x.got.complete)
			}
		}
		if a.names == inside && a.outcomes["root"] == "unreachable" && b.names == outside && b.outcomes["m0"] == "unreachable" {
			return ""
		}
		return fmt.Sprint(a, b)
	})
	f.t.Logf("the cut was named on both sides after %v", time.Since(begun).Round(10*time.Millisecond))
	heal()
	healed := time.Now()
	f.within(3*treePeriod+2*time.Second, "all is found again", func() string {
		a, b := f.find("l01", "lamp"), f.find("l12", "lamp")
		if a.names == all && b.names == all && a.complete && b.complete {
			return ""
		}
		return fmt.Sprint(a, b)
	})
	took := time.Since(healed)
	f.t.Logf("PROVE all was found again %.1f periods after healing (want 3)", float64(took)/float64(treePeriod))
	if took > 3*treePeriod {
		f.t.Errorf("consistent %v after healing, want %v", took, 3*treePeriod)
	}
}

// killed kills a server as a crash does, starts it again, and waits until nothing is missing anywhere.
func (f *forest) killed(name, all string) {
	f.kill(name)
	dead := time.Now()
	f.runOn(name, f.discovery(name), f.config[name])
	f.within(30*time.Second, "all is found after kill -9 of "+name, func() string {
		for _, at := range []string{"l00", name} {
			if got := f.find(at, "lamp"); got.names != all || !got.complete {
				return fmt.Sprintf("at %s: %q is missing, %v", at, without(all, got.names), got.outcomes)
			}
		}
		return ""
	})
	f.t.Logf("%s: nothing was missing %v after kill -9", name, time.Since(dead).Round(10*time.Millisecond))
}

// plantForest starts the servers and their services.
func plantForest(t *testing.T) *forest {
	f := &forest{
		system: newSystem(t), parent: map[string]string{}, address: map[string]string{}, config: map[string]string{},
		fronts: map[string]string{}, relays: map[string]*relay.Relay{}, clients: map[string]*tree.Client{},
	}
	f.names = []string{"root"}
	for i := range 3 {
		m := fmt.Sprint("m", i)
		f.names, f.parent[m] = append(f.names, m), "root"
	}
	for i := range 9 {
		l := fmt.Sprintf("l%d%d", i/3, i%3)
		f.names, f.parent[l] = append(f.names, l), fmt.Sprint("m", i/3)
	}
	for i, name := range f.names {
		f.sprout(i, name)
	}
	f.user("root/admin", "ann")
	for _, name := range f.names {
		f.light(name)
	}
	return f
}

// sprout starts one server.
func (f *forest) sprout(i int, name string) {
	f.t.Helper()
	sds := fmt.Sprintf("  sds:\n    name: %s\n    channel: '%s:%d'\n    period: 1s\n", name, f.group, f.port+2*i+1)
	if name == "root" {
		f.config[name] = "roles:\n  ca: {domain: test.ninja}\n  capability: {}\n" + sds
	} else {
		slow := relay.Faults{Link: world.Link{Delay: 3 * time.Millisecond, Jitter: 2 * time.Millisecond}}
		f.relays[name] = relay.New(relay.Config{There: slow, Back: slow})
		f.t.Cleanup(func() { f.relays[name].Close() })
		front, err := f.relays[name].Forward("tcp", f.address[f.parent[name]])
		if err != nil {
			f.t.Fatal(err)
		}
		f.fronts[name] = front
		token := f.must("root/admin", "ninjactl", "token", "--for", "sds/"+name)
		root := f.ready("root")
		f.config[name] = "roles:\n" + sds + fmt.Sprintf("    join: %s\n    ca: %s\n    capability: %s\n    parents: [{hierarchy: world, addresses: ['%s']}]\n", token, root["ca"], root["capability"], front)
	}
	f.runOn(name, f.discovery(name), f.config[name])
	f.address[name] = f.ready(name)["sds"]
}

// discovery is the channel of a server's own, so that its services find it and no other.
func (f *forest) discovery(name string) string {
	return fmt.Sprintf("{group: '%s:%d'}", f.group, f.port+2*slices.Index(f.names, name))
}

func (f *forest) ready(name string) (out map[string]string) {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, name+".ready"))
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// light announces services at a server until the test ends, and makes the client that asks there.
func (f *forest) light(name string) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	f.t.Cleanup(func() { cancel(); all.Wait() })
	h, err := home.Open(ctx, filepath.Join(f.dir, "ann"))
	if err != nil {
		f.t.Fatal(err)
	}
	h.Settings.Group, h.Settings.Via = fmt.Sprintf("%s:%d", f.group, f.port+2*slices.Index(f.names, name)), "127.0.0.1"
	rights, err := h.Rights(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	client, err := tree.Dial(sds.ClientConfig{Identity: h.Identity, World: h.World, Address: f.address[name], Capability: rights.Capability})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { client.Close() })
	f.clients[name] = client
	f.announcing(ctx, &all, h, client.Client, func(a *announce.Announcer) {
		publish := func(service, kind string) {
			if _, err := rights.Grant(ctx, fmt.Sprintf("%s#%s", h.Identity.ID(), service), "everyone", 1); err != nil {
				f.t.Fatal(err)
			}
			if err := a.Publish(service, []byte(fmt.Sprintf(`<service kind="%s" name="%s"><floor>%d</floor></service>`, kind, service, len(service)))); err != nil {
				f.t.Fatal(err)
			}
		}
		for i := range lampsEach {
			publish(fmt.Sprintf("%s-%d", name, i), "lamp")
		}
		publish("only-"+name, "only-"+name)
	})
}

// lampsOf are the names of all lamps at these servers.
func (f *forest) lampsOf(servers ...string) string {
	var out []string
	for _, s := range servers {
		for i := range lampsEach {
			out = append(out, fmt.Sprintf("%s-%d", s, i))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// finding is what a query found, and by which servers.
type finding struct {
	names    string
	complete bool
	outcomes map[string]string
}

// find asks at a server for everything of a kind, everywhere.
func (f *forest) find(at, kind string) finding {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	a, err := f.clients[at].Ask(ctx, sds.Query{Template: []byte(fmt.Sprintf(`<service kind="%s"/>`, kind))}, tree.Options{Scope: route.All})
	if err != nil {
		return finding{names: err.Error()}
	}
	out := finding{complete: a.Complete(), outcomes: map[string]string{}}
	var names []string
	for _, x := range a.Found {
		names = append(names, x.Name)
	}
	slices.Sort(names)
	out.names = strings.Join(names, " ")
	for _, o := range a.Outcomes {
		out.outcomes[o.Server.Name()] = o.Status.String()
	}
	return out
}

// without are the names of one list that another lacks.
func without(all, some string) string {
	have := strings.Fields(some)
	return strings.Join(slices.DeleteFunc(strings.Fields(all), func(s string) bool { return slices.Contains(have, s) }), " ")
}

// within waits until a condition complains no more.
func (f *forest) within(limit time.Duration, what string, complaint func() string) {
	f.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		c := complaint()
		if c == "" {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("not in %v: %s: %s", limit, what, c)
		}
	}
}

// filter has a packet filter drop what goes between a server and its parent, or the relay where that is not allowed, and
// returns what ends it.
func (f *forest) filter(name string) (heal func()) {
	if os.Getenv(insideTree) == "" {
		f.relays[name].Cut()
		return f.relays[name].Heal
	}
	_, port, err := net.SplitHostPort(f.fronts[name])
	if err != nil {
		f.t.Fatal(err)
	}
	nft := func(args ...string) {
		if out, err := exec.Command("nft", args...).CombinedOutput(); err != nil {
			f.t.Fatalf("nft %v: %v: %s", args, err, out)
		}
	}
	nft("add table inet parted")
	nft("add chain inet parted in { type filter hook input priority 0; }")
	nft("add rule inet parted in tcp dport " + port + " drop")
	nft("add rule inet parted in tcp sport " + port + " drop")
	return func() { nft("delete table inet parted") }
}

// A daemon past its limit starts another one, which services of its kinds, or of its range of owners where all are of one
// kind, move to by themselves; nobody who asks, plainly or with a scope, misses anything meanwhile, nor while the other one is
// killed and started again.
func TestALoadedDaemonSpawns(t *testing.T) {
	for name, owners := range map[string][]string{"two kinds": {"user/ann", "base/bob"}, "one kind": {"user/ann", "user/bob"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spawning(t, owners)
		})
	}
}

func spawning(t *testing.T, owners []string) {
	s := newSystem(t)
	const each = 6
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {name: main, channel: '%s:%d', period: 1s, spawn: {services: %d}}\n", s.group, s.port+1, each+2))
	f := &forest{system: s, names: []string{"server"}, clients: map[string]*tree.Client{}, address: map[string]string{}}
	f.address["server"] = f.ready("server")["sds"]
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	var announcers []*announce.Announcer
	for _, id := range owners {
		_, who, _ := strings.Cut(id, "/")
		s.must(who, "ninjactl", "join", s.must("server/admin", "ninjactl", "token", "--for", id), "--group", fmt.Sprintf("%s:%d", s.group, s.port), "--via", "127.0.0.1")
		h, err := home.Open(ctx, filepath.Join(s.dir, who))
		if err != nil {
			t.Fatal(err)
		}
		rights, err := h.Rights(ctx)
		if err != nil {
			t.Fatal(err)
		}
		client, err := tree.Dial(sds.ClientConfig{Identity: h.Identity, World: h.World, Address: f.address["server"], Capability: rights.Capability})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		f.clients["server"] = client
		s.announcing(ctx, &all, h, client.Client, func(a *announce.Announcer) {
			announcers = append(announcers, a)
			for i := range each {
				name := fmt.Sprintf("%s-%d", who, i)
				if _, err := rights.Grant(ctx, fmt.Sprintf("%s#%s", h.Identity.ID(), name), "everyone", 1); err != nil {
					t.Fatal(err)
				}
				if err := a.Publish(name, []byte(fmt.Sprintf(`<service kind="lamp" name="%s"/>`, name))); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	count := func() int { return len(strings.Fields(f.find("server", "lamp").names)) }
	s.eventually("all is found", func() bool { return count() == 2*each })
	asked, wrong := 0, 0
	links := func() string {
		return strings.Join(strings.Fields(s.must("ann", "ninjactl", "sds", "links", "--server", f.address["server"])), " ")
	}
	plain := func() string {
		return s.must("ann", "sdsquery", "--server", f.address["server"], "--count", "kind=lamp")
	}
	watchful := func(what string, holds func() bool) {
		s.eventually(what, func() bool {
			for range 5 {
				if asked++; count() != 2*each {
					wrong++
				}
			}
			if asked++; strings.TrimSpace(plain()) != fmt.Sprint(2*each) {
				wrong++
			}
			return holds()
		})
	}
	spawned := func() (out []string) { // process ids
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, file := range lines {
			line, err := os.ReadFile(file)
			if err == nil && strings.Contains(string(line), s.dir) && strings.Contains(string(line), filepath.Join("spawned", "main-1", "ninjad.yaml")) {
				out = append(out, filepath.Base(filepath.Dir(file)))
			}
		}
		return out
	}
	watchful("a server is spawned", func() bool { return strings.Contains(links(), "sds/main-1 alive") })
	moved := time.Now() // longer than any service that was heard at the first lives there
	watchful("services move", func() bool { return time.Since(moved) > 8*time.Second })
	followed := make(map[string]bool)
	for _, a := range announcers {
		server, _ := a.Server()
		followed[server.ID.Name()] = true
	}
	if !followed["main"] || !followed["main-1"] {
		t.Errorf("services announce themselves to %v", followed)
	}
	atChild := s.askOn(ctx, &all, filepath.Join(s.dir, "server", "spawned", "main-1", "ready"), 2*each)
	before := spawned()
	if len(before) != 1 {
		t.Fatalf("spawned processes: %v", before)
	}
	if out, err := exec.Command("kill", "-9", before[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	watchful("it is started again", func() bool {
		now := spawned()
		return len(now) == 1 && now[0] != before[0] && strings.Contains(links(), "sds/main-1 alive")
	})
	again := time.Now()
	watchful("services find it again", func() bool { return time.Since(again) > 12*time.Second })
	there, wrongThere := atChild()
	asked, wrong = asked+there, wrong+wrongThere
	t.Logf("PROVE a daemon spawned another one, which was killed: %d queries, %d of them to that one, %d failed or incomplete", asked, there, wrong)
	if wrong > 0 {
		t.Errorf("%d of %d queries failed or were incomplete", wrong, asked)
	}
}

// askOn asks on and on at the server that a ready file tells of, also while it is away, until the returned function is called,
// which says how many answers there were and how many of them not whole.
func (s *system) askOn(ctx context.Context, all *sync.WaitGroup, ready string, want int) (end func() (asked, wrong int)) {
	s.t.Helper()
	var roles map[string]string
	b, err := os.ReadFile(ready)
	if err == nil {
		err = json.Unmarshal(b, &roles)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	h, err := home.Open(ctx, filepath.Join(s.dir, "ann"))
	if err != nil {
		s.t.Fatal(err)
	}
	rights, err := h.Rights(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := sds.Dial(sds.ClientConfig{Identity: h.Identity, World: h.World, Address: roles["sds"], Capability: rights.Capability})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	asked, wrong := 0, 0
	all.Go(func() {
		defer close(ended)
		defer client.Close()
		for ctx.Err() == nil {
			asking, enough := context.WithTimeout(ctx, 20*time.Second)
			n, err := client.Count(asking, sds.Query{Template: []byte(`<service kind="lamp"/>`)})
			enough()
			if ctx.Err() != nil {
				return
			}
			if asked++; n != want || err != nil {
				wrong++
				s.t.Logf("the spawned server answers %d, %v", n, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() (int, int) { cancel(); <-ended; return asked, wrong }
}
