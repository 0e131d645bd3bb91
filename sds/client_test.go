package sds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
)

// serve serves a Discovery service at an address until stop is called.
func serve(t *testing.T, id *ca.Identity, address string, impl sdspb.DiscoveryServer) (at string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(append(ServerOptions(), grpc.Creds(ca.ServerCredentials(id, nil)))...)
	sdspb.RegisterDiscoveryServer(g, impl)
	var all sync.WaitGroup
	all.Go(func() { _ = g.Serve(l) })
	return l.Addr().String(), func() { g.Stop(); all.Wait() }
}

// TestRestart: queries and watches outlive the server's process, and a watch tells only of differences.
func TestRestart(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	put := func(s *Server, names ...string) {
		for _, n := range names {
			w.acls.set(string(owner.ID())+"#"+n, capability.Everyone)
			if err := s.Put(announce.Sign(owner, n, 1, []byte("<a/>"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	running := func() (*Server, func()) {
		s, err := NewServer(w.server.cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() { _ = s.Run(ctx) })
		return s, func() { cancel(); all.Wait() }
	}
	first, stopFirst := running()
	put(first, "p0", "p1")
	address, stop := serve(t, w.server.cfg.Identity, "127.0.0.1:0", first)
	w.address = address
	c := w.client(w.identity(ca.KindUser, "u"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	events, done := make(chan string, 16), make(chan struct{})
	watching, endWatch := context.WithCancel(ctx)
	go func() {
		defer close(done)
		_ = c.Watch(watching, Query{}, func(e WatchEvent) { events <- strings.TrimSpace(e.Kind.String() + " " + e.Found.Name) })
	}()
	take := func(n int) (got []string) {
		for range n {
			select {
			case e := <-events:
				got = append(got, e)
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
		}
		slices.Sort(got)
		return got
	}
	if got := take(3); !slices.Equal(got, []string{"enter p0", "enter p1", "synced"}) {
		t.Error(got)
	}
	if found, err := c.Query(ctx, Query{}); err != nil || len(found) != 2 {
		t.Error(names(found), err)
	}
	stop()
	stopFirst()
	second, stopSecond := running()
	defer stopSecond()
	put(second, "p1", "p2")
	_, stop = serve(t, w.server.cfg.Identity, address, second)
	defer stop()
	if found, err := c.Query(ctx, Query{}); err != nil || !slices.Equal(names(found), []string{"p1", "p2"}) {
		t.Error(names(found), err)
	}
	if got := take(3); !slices.Equal(got, []string{"enter p2", "leave p0", "synced"}) {
		t.Error(got)
	}
	endWatch()
	<-done
}

func TestUnreachable(t *testing.T) {
	w := newTown(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	w.address = l.Addr().String()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = w.client(w.identity(ca.KindUser, "u")).Query(ctx, Query{})
	if err == nil || !strings.Contains(err.Error(), w.address) || !errors.Is(err, errBroken) {
		t.Error(err)
	}
	// Who is no SDS server is not asked.
	address, stop := serve(t, w.identity(ca.KindProxy, "p"), "127.0.0.1:0", w.server)
	defer stop()
	w.address = address
	ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err = w.client(w.identity(ca.KindUser, "u")).Query(ctx, Query{}); err == nil || !strings.Contains(err.Error(), "wanted the kind [sds]") {
		t.Error(err)
	}
}

// liar is a hostile SDS server.
type liar struct {
	sdspb.UnimplementedDiscoveryServer
	found []*sdspb.Found
}

func (l *liar) Session(stream grpc.BidiStreamingServer[sdspb.SessionRequest, sdspb.SessionResponse]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		if a := m.GetAsk(); a != nil {
			_ = stream.Send(&sdspb.SessionResponse{Id: 12345, Found: l.found, Last: true}) // nobody asked
			_ = stream.Send(&sdspb.SessionResponse{Id: a.GetId(), Found: l.found, Last: true})
		}
	}
}

func TestLyingServer(t *testing.T) {
	w := newTown(t)
	owner, other := w.identity(ca.KindBase, "b"), w.identity(ca.KindBase, "c")
	message := func(b announce.Body, change func(*sdspb.Found)) *sdspb.Found {
		m := &sdspb.Found{Owner: string(b.Owner), Name: b.Name, Version: b.Version, Description: b.Description, Signature: b.Signature, Chain: b.Chain}
		change(m)
		return m
	}
	good := announce.Sign(owner, "p", 1, []byte("<a/>"))
	l := &liar{found: []*sdspb.Found{
		message(good, func(*sdspb.Found) {}),
		message(good, func(m *sdspb.Found) { m.Description = []byte("<b/>") }),
		message(good, func(m *sdspb.Found) { m.Version++ }),
		message(good, func(m *sdspb.Found) { m.Name = "q" }),
		message(good, func(m *sdspb.Found) { m.Owner = string(other.ID()) }),
		message(good, func(m *sdspb.Found) { m.Owner, m.Chain = string(other.ID()), other.Chain() }),
		message(good, func(m *sdspb.Found) { m.Chain = nil }),
		message(announce.Sign(owner, "r", 1, []byte("<a>&evil;</a>")), func(*sdspb.Found) {}),
	}}
	address, stop := serve(t, w.server.cfg.Identity, "127.0.0.1:0", l)
	defer stop()
	w.address = address
	c := w.client(w.identity(ca.KindUser, "u"))
	for range 2 { // the second time from memory
		found, err := c.Query(context.Background(), Query{})
		if err != nil || len(found) != 1 || found[0].Name != "p" {
			t.Errorf("believed %v, %v", names(found), err)
		}
	}
}

// TestManyAtOnce: one session carries many questions, large answers and given-up ones.
func TestManyAtOnce(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	for i := range 60 {
		w.publish(owner, fmt.Sprint("p", i), 1, fmt.Sprintf("<a><n>%d</n>%s</a>", i, strings.Repeat("<t>"+strings.Repeat("x", 2000)+"</t>", 10)))
	}
	c := w.client(owner)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			switch i % 10 {
			case 0:
				if found, err := c.Query(context.Background(), Query{}); len(found) != 60 || err != nil {
					t.Errorf("everything: %d, %v", len(found), err)
				}
			case 1:
				ctx, cancel := context.WithTimeout(context.Background(), time.Microsecond)
				defer cancel()
				if _, err := c.Query(ctx, Query{}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("given up: %v", err)
				}
			default:
				found, err := c.Query(context.Background(), Query{XPath: fmt.Sprintf("/a[n=%d]", i%60)})
				if err != nil || !slices.Equal(names(found), []string{fmt.Sprint("p", i%60)}) {
					t.Errorf("%d: %v, %v", i, names(found), err)
				}
			}
		})
	}
	all.Wait()
}

func TestClosedClient(t *testing.T) {
	w := newTown(t)
	c, err := Dial(ClientConfig{Identity: w.identity(ca.KindUser, "u"), World: world.Real(), Address: w.address})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Query(context.Background(), Query{}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Query(context.Background(), Query{}); err == nil {
		t.Error("a closed client answered")
	}
	if err := c.Watch(context.Background(), Query{}, nil); err == nil {
		t.Error("a closed client watches")
	}
}

// TestACLsAreFollowed: a change of an access list hides and shows without anybody telling the server.
func TestACLsAreFollowed(t *testing.T) {
	w := newTown(t)
	owner, user := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	w.publish(owner, "p", 1, "<a/>")
	ctx, cancel := context.WithCancel(context.Background())
	events, done := make(chan WatchKind, 4), make(chan struct{})
	c := w.client(user)
	go func() {
		defer close(done)
		_ = c.Watch(ctx, Query{}, func(e WatchEvent) { events <- e.Kind })
	}()
	if e := <-events; e != Synced {
		t.Fatal(e)
	}
	service := string(owner.ID()) + "#p"
	w.acls.set(service, "group:staff", capability.Who(user.ID()))
	if e := <-events; e != Enter {
		t.Fatal(e)
	}
	w.acls.setFresh(false)
	if a, b := <-events, <-events; a != Leave || b != Synced {
		t.Fatal(a, b)
	}
	w.acls.setFresh(true)
	if a, b := <-events, <-events; a != Enter || b != Synced {
		t.Fatal(a, b)
	}
	w.acls.set(service, "group:staff")
	if e := <-events; e != Leave {
		t.Fatal(e)
	}
	cancel()
	<-done
}

// TestRevokedWatchEnds: a watch lasts no longer than the capability that opened it.
func TestRevokedWatchEnds(t *testing.T) {
	w := newTown(t)
	owner, user := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	w.publish(owner, "p", 1, "<a/>")
	w.allow(owner, "p", capability.Who(user.ID()))
	c := w.client(user)
	ctx, cancel := context.WithCancel(context.Background())
	events, done := make(chan WatchKind, 4), make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Watch(ctx, Query{}, func(e WatchEvent) { events <- e.Kind })
	}()
	if a, b := <-events, <-events; a != Enter || b != Synced {
		t.Fatal(a, b)
	}
	w.tokens.mu.Lock()
	clear(w.tokens.claims)
	w.tokens.mu.Unlock()
	if a, b := <-events, <-events; a != Leave || b != Synced { // watched again, as everyone
		t.Fatal(a, b)
	}
	cancel()
	<-done
}

// TestSlowWatcher: whoever does not listen is not queued for, and sees the present when they listen again.
func TestSlowWatcher(t *testing.T) {
	w := newTown(t)
	owner := w.identity(ca.KindBase, "b")
	long := strings.Repeat("<t>"+strings.Repeat("x", 2000)+"</t>", 2)
	c := w.client(owner)
	ctx, cancel := context.WithCancel(context.Background())
	begun, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	seen, events, synced := map[string]uint64{}, 0, make(chan struct{}, 8)
	go func() {
		defer close(done)
		_ = c.Watch(ctx, Query{}, func(e WatchEvent) {
			events++
			switch e.Kind {
			case Enter, Change:
				seen[e.Found.Name] = e.Found.Version
			case Leave:
				delete(seen, e.Found.Name)
			case Synced:
				if events == 1 {
					close(begun)
					<-goOn
					return
				}
				synced <- struct{}{}
			}
		})
	}()
	<-begun
	const rounds = 4*watchQueue + 200
	for i := range rounds {
		w.publish(owner, "p", uint64(i+1), fmt.Sprintf("<a><n>%d</n>%s</a>", i, long))
	}
	w.publish(owner, "q", 1, "<a/>")
	close(goOn)
	<-synced
	cancel()
	<-done
	if len(seen) != 2 || seen["p"] != rounds || seen["q"] != 1 {
		t.Errorf("in the end %v", seen)
	}
	if events >= rounds {
		t.Errorf("%d events were kept for who did not listen", events)
	}
}
