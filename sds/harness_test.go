package sds

import (
	"context"
	"crypto/ed25519"
	"errors"
	"maps"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// town is a domain with one SDS server and its principals.
type town struct {
	t       testing.TB
	ca      *ca.Authority
	server  *Server
	address string
	acls    *fakeACLs
	tokens  *fakeTokens
	groups  func(i int) []capability.Who // who finds service i of the catalogue; nil is group:staff
}

func newTown(t testing.TB) *town {
	t.Helper()
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, ca: a, acls: &fakeACLs{lists: map[string]*capability.ACL{}, fresh: true, changed: make(chan struct{})}, tokens: &fakeTokens{claims: map[string]capability.Claims{}}}
	if w.server, err = NewServer(Config{Identity: w.identity(ca.KindSDS, "s"), World: world.Real(), Verifier: w.tokens, ACLs: w.acls}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = w.server.Run(ctx) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	g := grpc.NewServer(append(ServerOptions(), grpc.Creds(ca.ServerCredentials(w.server.cfg.Identity, nil)))...)
	w.server.Register(g)
	all.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() { g.Stop(); cancel(); all.Wait() })
	return w
}

func (w *town) identity(kind, name string) *ca.Identity {
	w.t.Helper()
	id, err := w.ca.NewIdentity(kind, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// client is a client of the principal, with a capability for itself, everyone and the groups.
func (w *town) client(id *ca.Identity, groups ...capability.Who) *Client {
	w.t.Helper()
	return w.clientWith(id, w.tokens.issue(id, groups...))
}

func (w *town) clientWith(id *ca.Identity, token []byte) *Client {
	w.t.Helper()
	c, err := Dial(ClientConfig{Identity: id, World: world.Real(), Address: w.address, Capability: func(context.Context) ([]byte, error) { return token, nil }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// publish puts a description in by the datagram side.
func (w *town) publish(id *ca.Identity, name string, version uint64, description string) {
	w.t.Helper()
	if err := w.server.Put(announce.Sign(id, name, version, []byte(description))); err != nil {
		w.t.Fatal(err)
	}
}

// allow sets the ACL of a service.
func (w *town) allow(id *ca.Identity, name string, who ...capability.Who) {
	service := string(id.ID()) + "#" + name
	w.acls.set(service, who...)
	_ = w.server.store.do(func() { w.server.store.reclass([]string{service}) }) // what follow does a moment later
}

type fakeACLs struct {
	mu      sync.Mutex
	lists   map[string]*capability.ACL
	fresh   bool
	changed chan struct{}
}

func (f *fakeACLs) set(service string, who ...capability.Who) {
	f.mu.Lock()
	defer f.mu.Unlock()
	acl := &capability.ACL{Service: service}
	for _, w := range who {
		acl.Entries = append(acl.Entries, capability.Entry{Who: w, Ops: capability.Find})
	}
	f.lists[service] = acl
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeACLs) All() (map[string]*capability.ACL, uint64, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.lists), 0, f.changed
}

func (f *fakeACLs) ACL(service string) *capability.ACL {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists[service]
}

func (f *fakeACLs) setFresh(fresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fresh = fresh
}

func (f *fakeACLs) Fresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh
}

type fakeTokens struct {
	mu     sync.Mutex
	claims map[string]capability.Claims
}

func (f *fakeTokens) issue(id *ca.Identity, groups ...capability.Who) []byte {
	return f.add(capability.Claims{
		Principal: id.ID(), Grants: append([]capability.Who{capability.Who(id.ID()), capability.Everyone}, groups...),
		Ops: capability.Find, Expires: time.Now().Add(time.Hour), Holder: id.Public(),
	})
}

func (f *fakeTokens) add(c capability.Claims) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	token := string(c.Principal) + string(rune('a'+len(f.claims)))
	f.claims[token] = c
	return []byte(token)
}

func (f *fakeTokens) Verify(token []byte, holder ed25519.PublicKey) (capability.Claims, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.claims[string(token)]
	if !ok || !c.Holder.Equal(holder) || time.Now().After(c.Expires) {
		return capability.Claims{}, errors.New("no such capability")
	}
	return c, nil
}

func names(found []Found) (out []string) {
	for _, f := range found {
		out = append(out, f.Name)
	}
	return out
}
