package capability

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Store for tests.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
}

func newMemory() *memory { return &memory{values: map[string][]byte{}} }

func (s *memory) List(_ context.Context, table, prefix string, each func(string, []byte, uint64) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		if key, ok := strings.CutPrefix(k, table+"/"); ok && strings.HasPrefix(key, prefix) {
			if err := each(key, s.values[k], 1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *memory) Put(_ context.Context, table, key string, value []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[table+"/"+key] = value
	return 1, nil
}

func (s *memory) Delete(_ context.Context, table, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, table+"/"+key)
	return nil
}

// site is a domain with a capability manager.
type site struct {
	t       testing.TB
	world   world.World
	ca      *ca.Authority
	manager *Manager
	routing *Routing // nil: it is not served
	id      *ca.Identity
	address string
	server  *grpc.Server
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteIn(t, world.Real())
}

// fixed is a world in which everything comes out the same each time: the processes of a fuzz test must agree on what is
// a good token.
func fixed() world.World {
	w := world.Real()
	w.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }
	w.Rand = rand.NewChaCha8([32]byte{})
	return w
}

func newSiteIn(t testing.TB, w world.World) *site { return newSiteOf(t, w, "test") }

func newSiteOf(t testing.TB, w world.World, domain string) *site {
	t.Helper()
	s := &site{t: t, world: w}
	var err error
	if s.ca, err = ca.NewAuthority(s.world, domain); err != nil {
		t.Fatal(err)
	}
	s.id = s.identity(ca.KindCapability, "manager")
	s.manager, err = NewManager(t.Context(), ManagerConfig{Identity: s.id, Store: newMemory(), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve makes the manager reachable, at the address it had before if it had one.
func (s *site) serve() *site {
	s.t.Helper()
	if s.address == "" {
		s.address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	server := grpc.NewServer(grpc.Creds(ca.ServerCredentials(s.id, nil)))
	s.server = server
	s.manager.Register(server)
	if s.routing != nil {
		s.routing.Register(server)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); server.Serve(l) }()
	s.t.Cleanup(func() { server.Stop(); <-ran })
	return s
}

func (s *site) identity(kind, name string) *ca.Identity {
	s.t.Helper()
	id, err := s.ca.NewIdentity(kind, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func (s *site) client(id *ca.Identity) *Client {
	s.t.Helper()
	c, err := NewClient(ClientConfig{World: s.world, Identity: id, Address: s.address})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// follower follows until the test ends.
func (s *site) follower(hold time.Duration) *Follower {
	s.t.Helper()
	return s.followerAs(s.identity(ca.KindSDS, "sds"), hold)
}

func (s *site) followerAs(id *ca.Identity, hold time.Duration) *Follower {
	s.t.Helper()
	f, err := NewFollower(FollowerConfig{
		World: s.world, Identity: id, Address: s.address, Hold: hold, Log: quiet(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); f.Run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-ran })
	return f
}

// token is a fresh capability of id.
func (s *site) token(id *ca.Identity) []byte {
	t, _ := s.manager.issue(ca.Peer{ID: id.ID(), Key: id.Public()}, time.Hour)
	return t
}

func (s *site) verifier() *Verifier { return NewVerifier(s.id, nil) }

// until waits for what another goroutine brings about.
func until(t testing.TB, f *Follower, what string, true func() bool) {
	t.Helper()
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	for {
		_, _, changed := f.All()
		if true() {
			return
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond): // the manager's signs of life do not count as changes
		case <-deadline.C:
			t.Fatalf("after 5 s not yet: %s", what)
		}
	}
}
