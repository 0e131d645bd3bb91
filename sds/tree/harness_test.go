package tree

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds"
	"ninja/sds/announce"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wood is a certificate authority and servers of its domain in one process, on loopback.
type wood struct {
	t    testing.TB
	ca   *ca.Authority
	acls *lists
	by   map[string]*plant
	// checks, unless nil, has servers check capabilities as real ones do, accept says who may connect to them.
	checks func(*ca.Identity, *sds.Config, *Config)
	accept func(ca.Peer) error
}

// plant is one server.
type plant struct {
	wood    *wood
	id      *ca.Identity
	server  *sds.Server
	node    *Node
	address string
	stop    func()
}

const everyone = capability.Everyone

const testPeriod = 400 * time.Millisecond

func newWood(t testing.TB) *wood {
	t.Helper()
	return newWoodOf(t, "test")
}

func newWoodOf(t testing.TB, domain string) *wood {
	t.Helper()
	a, err := ca.NewAuthority(world.Real(), domain)
	if err != nil {
		t.Fatal(err)
	}
	return &wood{t: t, ca: a, acls: &lists{m: map[string]*capability.ACL{}, changed: make(chan struct{})}, by: map[string]*plant{}}
}

func (w *wood) identity(kind, name string) *ca.Identity {
	w.t.Helper()
	id, err := w.ca.NewIdentity(kind, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func testLog() *slog.Logger {
	if os.Getenv("NINJA_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// grow starts a server; parents are "hierarchy=server".
func (w *wood) grow(name string, parents ...string) *plant {
	w.t.Helper()
	p := &plant{wood: w, id: w.identity(ca.KindSDS, name), address: "127.0.0.1:0"}
	w.by[name] = p
	p.start(func(c *Config) {
		for _, s := range parents {
			hierarchy, server, _ := strings.Cut(s, "=")
			address := server
			if p := w.by[server]; p != nil {
				address = p.address
			}
			domain := ""
			if p := w.by[server]; p != nil {
				domain = p.id.ID().Domain()
			}
			c.Parents = append(c.Parents, Parent{Hierarchy: hierarchy, Addresses: []string{address}, Domain: domain})
		}
	})
	w.t.Cleanup(func() { p.stop() })
	return p
}

// start starts the server at its address.
func (p *plant) start(with func(*Config)) {
	w := p.wood
	w.t.Helper()
	var err error
	local := sds.Config{Identity: p.id, World: world.Real(), ACLs: w.acls, Verifier: tokens{}, Log: testLog(), Lifetime: time.Hour}
	cfg := Config{Identity: p.id, World: world.Real(), Period: testPeriod, Log: testLog(), Secret: func() []byte { return []byte("of the domain") }}
	if w.checks != nil {
		w.checks(p.id, &local, &cfg)
	}
	if p.server, err = sds.NewServer(local); err != nil {
		w.t.Fatal(err)
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		w.t.Fatal(err)
	}
	p.address = l.Addr().String()
	cfg.Local, cfg.Address = p.server, p.address
	with(&cfg)
	if p.node, err = New(cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = p.server.Run(ctx) })
	all.Go(func() { _ = p.node.Run(ctx) })
	g := grpc.NewServer(append(sds.ServerOptions(), grpc.Creds(ca.ServerCredentials(p.id, w.accept)))...)
	p.server.Register(g)
	p.node.Register(g)
	all.Go(func() { _ = g.Serve(l) })
	p.stop = sync.OnceFunc(func() { cancel(); g.Stop(); all.Wait() })
}

// publish puts a service in; everyone may find it unless others are named.
func (p *plant) publish(owner *ca.Identity, name string, version uint64, description string, who ...capability.Who) {
	p.wood.t.Helper()
	if len(who) == 0 {
		who = []capability.Who{capability.Everyone}
	}
	p.wood.acls.set(string(owner.ID())+"#"+name, who...)
	if err := p.server.Put(announce.Sign(owner, name, version, []byte(description))); err != nil {
		p.wood.t.Fatal(err)
	}
}

// client asks at a server, with a capability for itself, everyone and groups.
func (p *plant) client(id *ca.Identity, groups ...capability.Who) *Client {
	p.wood.t.Helper()
	token := []byte(string(id.ID()))
	for _, g := range groups {
		token = append(token, "\n"+string(g)...)
	}
	c, err := Dial(sds.ClientConfig{Identity: id, World: world.Real(), Address: p.address, Log: testLog(), Capability: func(context.Context) ([]byte, error) { return token, nil }})
	if err != nil {
		p.wood.t.Fatal(err)
	}
	p.wood.t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits until f is true; it is for what goes over real sockets, which no test clock moves.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !f() {
		if time.Now().After(end) {
			t.Fatalf("not in 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// knows waits until a server has heard of so many services behind a child.
func (p *plant) knows(child string, services int) {
	p.wood.t.Helper()
	id := p.wood.by[child].id.ID()
	eventually(p.wood.t, fmt.Sprintf("%s knows of %d services behind %s", p.id.ID(), services, child), func() bool {
		who, _ := p.node.neighbours("")
		for _, nb := range who {
			if nb.id == id && nb.stream != nil && nb.table.Known() && int(nb.table.Services()) == services {
				return true
			}
		}
		return false
	})
}

func ask(t testing.TB, c *Client, q sds.Query, o Options) *Answer {
	t.Helper()
	a, err := c.Ask(context.Background(), q, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func names(a *Answer) string {
	var out []string
	for _, f := range a.Found {
		out = append(out, f.Name+"@"+f.Server.Name())
	}
	return strings.Join(out, " ")
}

// outcomes are "server status" of all branches, those that searched first.
func outcomes(a *Answer) map[string]string {
	out := map[string]string{}
	for _, o := range a.Outcomes {
		if out[o.Server.Name()] == "" || o.Status.String() == "searched" {
			out[o.Server.Name()] = o.Status.String()
		}
	}
	return out
}

// lists are ACLs.
type lists struct {
	mu      sync.Mutex
	m       map[string]*capability.ACL
	changed chan struct{}
}

func (l *lists) set(service string, who ...capability.Who) {
	l.mu.Lock()
	defer l.mu.Unlock()
	acl := &capability.ACL{Service: service}
	for _, w := range who {
		acl.Entries = append(acl.Entries, capability.Entry{Who: w, Ops: capability.Find})
	}
	l.m[service] = acl
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *lists) All() (map[string]*capability.ACL, uint64, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]*capability.ACL{}
	for k, v := range l.m {
		out[k] = v
	}
	return out, 0, l.changed
}

func (l *lists) ACL(service string) *capability.ACL {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.m[service]
}

func (l *lists) Fresh() bool { return true }

// tokens verifies capabilities that are lines: the principal, then its groups.
type tokens struct{}

func (tokens) Verify(token []byte, holder ed25519.PublicKey) (capability.Claims, error) {
	lines := strings.Split(string(token), "\n")
	c := capability.Claims{Principal: ca.ID(lines[0]), Ops: capability.Find, Expires: time.Now().Add(time.Hour), Holder: holder}
	for _, l := range lines {
		if template, ok := strings.CutPrefix(l, "narrow "); ok {
			c.Templates = append(c.Templates, []byte(template))
			continue
		}
		c.Grants = append(c.Grants, capability.Who(l))
	}
	c.Grants = append(c.Grants, capability.Everyone)
	return c, nil
}
