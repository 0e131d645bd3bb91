package dds_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/base/dds"
	"ninja/base/dds/ddstest"
	"ninja/ca"
	"ninja/internal/world"
)

// served is an engine behind gRPC. It can be killed, as far as its clients can tell, and brought back.
type served struct {
	t         testing.TB
	path      string
	authority *ca.Authority
	access    []dds.Rule
	id        *ca.Identity

	address string
	engine  *dds.Engine
	stop    func()
}

func newServed(t testing.TB, path string) *served {
	t.Helper()
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, path: path, authority: a, address: "127.0.0.1:0"}
	s.access = []dds.Rule{
		{Tables: "*", Kinds: []string{ca.KindSDS}, Write: true},
		{Tables: "public-*", Kinds: []string{ca.KindUser}},
		{Tables: "anns", IDs: []ca.ID{"spiffe://test/user/ann"}, Write: true},
	}
	s.id = s.identity(ca.KindBase, "tables")
	s.start()
	return s
}

func (s *served) identity(kind, name string) *ca.Identity {
	s.t.Helper()
	id, err := s.authority.NewIdentity(kind, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *served) start() {
	s.t.Helper()
	var err error
	if s.engine, err = dds.Open(s.path); err != nil {
		s.t.Fatal(err)
	}
	server, err := dds.NewServer(dds.ServerConfig{Engine: s.engine, Identity: s.id, Access: s.access, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	g := grpc.NewServer(grpc.Creds(ca.ServerCredentials(s.id, nil)))
	server.Register(g)
	ran := make(chan struct{})
	go func() { defer close(ran); g.Serve(l) }()
	s.stop = sync.OnceFunc(func() {
		g.Stop()
		<-ran
		if err := s.engine.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

func (s *served) dial(id *ca.Identity) *dds.Client {
	s.t.Helper()
	c, err := dds.Dial(dds.ClientConfig{Identity: id, World: world.Real(), Address: s.address, Server: ca.Is(s.id.ID())})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// remote is a client that takes its server down with it.
type remote struct {
	*dds.Client
	stop func()
}

func (r remote) Close() error {
	err := r.Client.Close()
	r.stop()
	return err
}

func TestClientConformance(t *testing.T) {
	ddstest.Run(t, func(t testing.TB, dir string) ddstest.Store {
		s := newServed(t, filepath.Join(dir, "tables.db"))
		return remote{s.dial(s.identity(ca.KindSDS, "s")), s.stop}
	})
}

func TestTheCheckerOfHistories(t *testing.T) {
	if err := ddstest.SelfTest(); err != nil {
		t.Error(err)
	}
}

// The rules decide, and what they do not allow is refused, by kind or by name, for reading or for writing.
func TestAccess(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "tables.db"))
	defer s.stop()
	clients := map[string]*dds.Client{}
	for _, id := range []*ca.Identity{s.identity(ca.KindSDS, "s"), s.identity(ca.KindUser, "ann"), s.identity(ca.KindUser, "bob"), s.identity(ca.KindProxy, "p")} {
		c := s.dial(id)
		defer c.Close()
		clients[id.ID().Name()] = c
	}
	for _, tc := range []struct {
		who, table  string
		read, write bool
	}{
		{"s", "anything", true, true}, {"ann", "public-x", true, false}, {"bob", "public-x", true, false}, {"p", "public-x", false, false},
		{"ann", "anns", true, true}, {"bob", "anns", false, false}, {"bob", "anns2", false, false}, {"ann", "public", false, false},
	} {
		c := clients[tc.who]
		stop := errors.New("enough")
		_, _, getErr := c.Get(t.Context(), tc.table, "k")
		for what, err := range map[string]error{
			"get":   getErr,
			"list":  c.List(t.Context(), tc.table, "", func(string, []byte, uint64) error { return nil }),
			"watch": c.Watch(t.Context(), tc.table, "", func(dds.Event) error { return stop }),
		} {
			if ok := err == nil || errors.Is(err, stop); ok != tc.read {
				t.Errorf("%s may %s %s: %v (%v)", tc.who, what, tc.table, ok, err)
			} else if !ok && (status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "access rules")) {
				t.Errorf("%s %s %s: %v", tc.who, what, tc.table, err)
			}
		}
		_, putErr := c.Put(t.Context(), tc.table, "k", nil)
		_, renewErr := c.Renew(t.Context(), tc.table, "k", 1)
		for what, err := range map[string]error{"put": putErr, "delete": c.Delete(t.Context(), tc.table, "k"), "renew": renewErr} {
			if (err == nil) != tc.write {
				t.Errorf("%s %s %s: %v", tc.who, what, tc.table, err)
			}
		}
	}
	// A fence in a table that one may not read would tell about it.
	_, err := clients["ann"].Write(t.Context(), dds.Write{Table: "anns", Key: "k", Fence: &dds.Fence{Table: "hidden", Key: "k", Revision: 1}})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("fenced by a hidden table: %v", err)
	}
}

// A client takes nothing from a server that is not whom it wants.
func TestTheServerIsChecked(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "tables.db"))
	defer s.stop()
	c, err := dds.Dial(dds.ClientConfig{
		Identity: s.identity(ca.KindSDS, "s"), World: world.Real(), Address: s.address, Server: ca.Is("spiffe://test/base/other"),
		Timeout: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Put(t.Context(), "t", "k", nil); err == nil {
		t.Error("written to another's tables")
	}
	if _, r, err := s.engine.Get(t.Context(), "t", "k"); r != 0 || err != nil {
		t.Error(r, err)
	}
}

// A server that goes and comes back is found again by the same client; the watch begins again and tells the truth.
func TestTheServerComesBack(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "tables.db"))
	defer func() { s.stop() }()
	c := s.dial(s.identity(ca.KindSDS, "s"))
	defer c.Close()
	events := make(chan dds.Event, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Watch(ctx, "t", "", func(e dds.Event) error { events <- e; return nil }) }()
	want := func(kind dds.Kind, key string) {
		t.Helper()
		select {
		case e := <-events:
			if e.Kind != kind || e.Key != key {
				t.Errorf("got %+v, want %d %s", e, kind, key)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no event")
		}
	}
	if _, err := c.Put(t.Context(), "t", "a", nil); err != nil {
		t.Fatal(err)
	}
	want(dds.Reset, "")
	for e := range events { // a was put before or after the watch began
		if e.Key == "a" {
			break
		}
	}
	s.stop()
	s.start()
	for {
		_, err := c.Put(t.Context(), "t", "b", nil)
		if err == nil {
			break
		}
		if status.Code(err) != codes.Unavailable { // the old connection may fail one call yet
			t.Fatal(err)
		}
	}
	for e := range events {
		if e.Kind == dds.Reset {
			break
		}
	}
	want(dds.Set, "a")
	for e := range events {
		if e.Key == "b" {
			break
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What clients saw of a server that was cut off again and again can be explained by one order of all operations.
func TestLinearizableAcrossRestarts(t *testing.T) {
	s := newServed(t, filepath.Join(t.TempDir(), "tables.db"))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := ddstest.NewRecorder()
	var wg sync.WaitGroup
	for n := range 4 {
		c := s.dial(s.identity(ca.KindSDS, "s"))
		defer c.Close()
		wg.Go(func() {
			r.Work(t.Context(), remote{c, nil}, n, 120, 3, rand.New(rand.NewPCG(seed, uint64(n))), func(err error) {
				if !strings.Contains(err.Error(), "Unavailable") && !errors.Is(err, dds.ErrClosed) {
					t.Error(err)
				}
			})
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for again := true; again; {
		select {
		case <-done:
			again = false
		case <-time.After(40 * time.Millisecond):
			s.stop()
			s.start()
		}
	}
	s.stop()
	r.Check(t)
}
