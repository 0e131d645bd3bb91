package ca

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"ninja/internal/world"
)

// aged is an authority whose clock the test moves.
type aged struct {
	*Authority
	now time.Time
	dir string
}

func newAged(t *testing.T) *aged {
	t.Helper()
	g := &aged{now: time.Now(), dir: t.TempDir()}
	g.open(t)
	return g
}

func (g *aged) world() world.World {
	w := world.Real()
	w.Now = func() time.Time { return g.now }
	return w
}

func (g *aged) open(t *testing.T) {
	t.Helper()
	var err error
	if g.Authority, err = OpenAuthority(g.world(), "test", g.dir); err != nil {
		t.Fatal(err)
	}
}

// Threats, row 23: the root is rotated, and nobody who keeps its certificate fresh is ever refused. Every few minutes of
// three lives each of several principals, who renew at times of their own, judges every other, with what each knows at
// that moment; one learns of new roots only by its renewals.
func TestTheRootChangesWithoutARefusal(t *testing.T) {
	g := newAged(t)
	first := g.Roots()[0]
	var all []*Identity
	for _, name := range []string{"a", "b", "c", "d", "deaf"} {
		all = append(all, testIdentity(t, g.Authority, KindUser, name))
	}
	renew := func(i *Identity) {
		t.Helper()
		chain, roots, err := g.RenewIdentity(t.Context(), i)
		if err == nil {
			err = i.Renew(chain, roots)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	checked := 0
	const step = 5 * time.Minute
	for minute := range 60 {
		if minute == 6 {
			if err := g.Rotate(); err != nil {
				t.Fatal(err)
			}
			// Both roots' keys go back to their safe.
			for _, name := range []string{fileRootKey, fileNextKey} {
				if err := os.Remove(filepath.Join(g.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if minute%7 == 3 {
			g.open(t) // the authority is restarted now and then
		}
		for n, i := range all {
			if (minute+n*2)%9 == 0 { // every 45 minutes, each at its own time
				renew(i)
			}
			if i.ID().Name() != "deaf" {
				if err := i.Adopt(g.State()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, i := range all {
			for _, j := range all {
				checked++
				if _, err := i.Verify(j.Chain()); err != nil {
					t.Fatalf("at %v %s refuses %s: %v", time.Duration(minute)*step, i.ID(), j.ID(), err)
				}
			}
		}
		g.now = g.now.Add(step)
	}
	r := g.Rotation()
	if slices.Equal(r.Root, first) || r.Next != nil || r.Last != nil || len(g.Roots()) != 1 {
		t.Errorf("the root has not changed: %d roots", len(g.Roots()))
	}
	t.Logf("%d verifications over a change of the root, 0 refused", checked)
	// What the last root's holder still makes is worth nothing.
	stolen, err := NewAuthority(g.world(), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := all[0].Verify(testIdentity(t, stolen, KindUser, "a").Chain()); !errors.Is(err, ErrUntrusted) {
		t.Error(err)
	}
}

// A crash at any write of the switch leaves the old or the new state.
func TestASwitchSurvivesACrash(t *testing.T) {
	g := newAged(t)
	user := testIdentity(t, g.Authority, KindUser, "u")
	if err := g.Rotate(); err != nil {
		t.Fatal(err)
	}
	if err := g.Rotate(); err == nil {
		t.Error("a second change began during the first")
	}
	g.now = g.now.Add(g.overlap())
	// The list of roots was replaced; the rest of the switch was not reached.
	roots := slices.Clone(g.roots)
	next := roots[1]
	next.state, next.since = rootActive, g.now
	roots[0].state, roots[0].since = rootLast, g.now
	if err := writeRoots(g.dir, []root{next, roots[0]}); err != nil {
		t.Fatal(err)
	}
	g.open(t)
	if err := user.Adopt(g.State()); err != nil {
		t.Fatal(err)
	}
	if _, err := user.Verify(testIdentity(t, g.Authority, KindUser, "v").Chain()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{fileNextKey, fileNextIssuing} {
		if _, err := os.Stat(filepath.Join(g.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := g.Rotate(); err != nil {
		t.Errorf("the next change: %v", err)
	}
}

// A token made before the root changed is good after it, and a certificate that ended under the old root is renewed.
func TestLateComersCrossTheChange(t *testing.T) {
	o := newOffice(t)
	token := o.token("spiffe://test/user/late")
	early, err := Join(t.Context(), o.world, o.token("spiffe://test/user/sleeper").Text())
	if err != nil {
		t.Fatal(err)
	}
	o.server.cfg.Store = longTokens{o.store}
	for range 2 { // two changes in a row
		if err := o.a.Rotate(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			o.slept.Add(int64(o.a.overlap()))
			o.a.State()
			chain, roots, err := o.a.RenewIdentity(t.Context(), o.id)
			if err == nil {
				err = o.id.Renew(chain, roots)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(o.a.Roots()); n != 1 {
		t.Fatalf("%d roots", n)
	}
	i, err := Join(t.Context(), o.world, token.Text())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Verify(o.id.Chain()); err != nil {
		t.Error(err)
	}
	// The sleeper trusts only a root that is gone; the authority shows how that one vouched for its successors.
	if _, _, err = NewClient(o.world, early, o.addr).RenewIdentity(t.Context(), early); err != nil {
		t.Error(err)
	}
}

// longTokens is a Store whose tokens do not expire.
type longTokens struct{ *memory }

func (l longTokens) Get(ctx context.Context, table, key string) ([]byte, uint64, error) {
	value, revision, err := l.memory.Get(ctx, table, key)
	if table == tableToken && err == nil && revision != 0 {
		value = []byte(`{"id":"spiffe://test/user/late","expires":"2100-01-01T00:00:00Z"}`)
	}
	return value, revision, err
}

// Threats, row 7, for identities: from the ban to the end of a connection that is open, of streams on it, and to the last
// handshake, it takes a push.
func TestABanReachesEveryoneAtOnce(t *testing.T) {
	o := newOffice(t)
	const eve ID = "spiffe://test/user/eve"
	server, err := Join(t.Context(), o.world, o.token("spiffe://test/sds/s").Text())
	if err != nil {
		t.Fatal(err)
	}
	bad, err := Join(t.Context(), o.world, o.token(eve).Text())
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFollower(FollowerConfig{
		World: o.world, Identity: server, Guide: NewClient(o.world, server, o.addr), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); f.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	ended := make(chan struct{})
	server.OnBan(eve, func() { close(ended) })
	kept := server.OnBan(eve, func() { t.Error("called after it was taken back") })
	kept()
	if err := o.server.Ban(t.Context(), o.id.ID(), eve, false); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the ban was not heard")
	}
	t.Logf("PROVE from the ban to its effect at a follower: %v", time.Since(begun).Round(time.Millisecond))
	if _, err := server.Verify(bad.Chain()); !errors.Is(err, ErrBanned) || !errors.Is(err, ErrUntrusted) {
		t.Error(err)
	}
	now := make(chan struct{})
	server.OnBan(eve, func() { close(now) }) // who comes later is told at once
	<-now
	// It is lifted: a new certificate is good again.
	if err := o.server.Ban(t.Context(), o.id.ID(), eve, true); err != nil {
		t.Fatal(err)
	}
	for server.Banned(eve) {
		if ctx.Err() != nil {
			t.Fatal("still banned")
		}
		time.Sleep(time.Millisecond) // a push over a real socket
	}
}

// A ban ends an open connection and the streams on it.
func TestABanEndsConnections(t *testing.T) {
	a := testAuthority(t)
	server, user := testIdentity(t, a, KindSDS, "s"), testIdentity(t, a, KindUser, "eve")
	client := serve(t, server, grpc.WithTransportCredentials(ClientCredentials(user, nil)))
	stream, err := client.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	a.ban(user.ID(), time.Now())
	if err := server.Adopt(a.State()); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream of the banned: %v", err)
	}
}

// Bans survive a restart of the authority as long as certificates of the banned may live, and no longer.
func TestBansAreRecalled(t *testing.T) {
	o := newOffice(t)
	if err := o.server.Ban(t.Context(), o.id.ID(), "spiffe://test/user/eve", false); err != nil {
		t.Fatal(err)
	}
	again, err := NewAuthority(o.world, "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(ServerConfig{Authority: again, Identity: testIdentity(t, again, KindCA, "c"), Store: o.store}); err != nil {
		t.Fatal(err)
	}
	if b := again.State().Banned; len(b) != 1 {
		t.Errorf("banned: %v", b)
	}
	o.slept.Add(int64(2 * LeafLife))
	if b := again.State().Banned; len(b) != 0 {
		t.Errorf("still told after everything ended: %v", b)
	}
}
