package apc

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"ninja/apc/apcpb"
	"ninja/ca"
	"ninja/capability"
	"ninja/connectors"
	"ninja/connectors/hop"
	"ninja/connectors/tcp"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/host"
)

// place is a real node on the loopback interface.
type place struct {
	id      *ca.Identity
	control string
	hops    *hop.Server
}

// newPlace starts a node whose programs come from the registry, and whose hops go by tcp.
func newPlace(b testing.TB, a *ca.Authority, kind, name string, r *operators.Registry) place {
	return newPlaceIn(b, a, kind, name, r, world.Real(), func(id *ca.Identity, hops *hop.Server) connectors.Transport {
		return tcp.New(tcp.Config{Hops: hops, Identity: id, World: world.Real()})
	})
}

func newPlaceIn(b testing.TB, a *ca.Authority, kind, name string, r *operators.Registry, w world.World, by func(*ca.Identity, *hop.Server) connectors.Transport) place {
	id, err := a.NewIdentity(kind, name)
	if err != nil {
		b.Fatal(err)
	}
	hops, err := hop.NewServer(hop.Config{Identity: id, World: w, Address: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	h, err := host.New(host.Config{
		Identity: id, World: w, Registry: r, Transports: []connectors.Transport{by(id, hops)},
		Permit: func(context.Context, ca.Peer, host.Assignment) error { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(ca.ServerCredentials(id, nil)))
	h.Register(server)
	p := place{id, listen(b, server), hops}
	background(b, hops.Run)
	background(b, h.Run)
	return p
}

func listen(b testing.TB, s *grpc.Server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go s.Serve(l)
	b.Cleanup(s.Stop)
	return l.Addr().String()
}

// background runs something until the benchmark has ended.
func background(b testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = run(ctx)
		close(ended)
	}()
	b.Cleanup(func() { cancel(); <-ended })
}

// BenchmarkSetUp measures a path from the request to the first ADU at its sink, through five operators on two proxies,
// planning included, against the same number of empty calls (mutual TLS, warm connections) as it makes.
func BenchmarkSetUp(b *testing.B) {
	heard := make(chan struct{}, 1)
	c, rpc := chain(b, func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		if err := out.Write(ctx, connectors.ADU{Payload: []byte("x")}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}, func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
		if _, err := in.Read(ctx); err != nil {
			return err
		}
		heard <- struct{}{}
		<-ctx.Done()
		return nil
	})
	floor := emptyCalls(b, rpc)
	var total time.Duration
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		begun := time.Now()
		path := hex.EncodeToString(fmt.Appendf(nil, "%08d", i))
		info, err := c.Create(context.Background(), ann, Request{Path: path, Line: "phone:lobby ! phone:lobby", Capability: []byte(path)})
		if err != nil {
			b.Fatal(err)
		}
		<-heard
		total += time.Since(begun)
		b.StopTimer()
		if len(info.Steps) != 7 {
			b.Fatalf("%d steps", len(info.Steps))
		}
		if _, err := c.Delete(context.Background(), ann.ID, path); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(total)/float64(b.N)/float64(floor), "x-empty-calls")
	b.ReportMetric(float64(floor.Microseconds()), "floor-us")
}

// chain is a creator with real nodes for a path of five operators on two proxies between the ends of a unit.
func chain(b *testing.B, microphone, speaker operators.Func) (*Creator, apcpb.CreatorClient) {
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		b.Fatal(err)
	}
	unit, work := new(operators.Registry), new(operators.Registry)
	add(unit, "microphone", microphone)
	add(unit, "speaker", speaker)
	add(work, "step", operators.Each(func(a connectors.ADU) (connectors.ADU, error) { return a, nil }).Run)
	lobby := newPlace(b, a, ca.KindUnit, "lobby", unit)
	proxies := []place{newPlace(b, a, ca.KindProxy, "p1", work), newPlace(b, a, ca.KindProxy, "p2", work)}

	town := &town{}
	publish := func(at place, d operators.Description) {
		d.Node = &operators.Node{Control: at.control, Data: at.hops.Addr(), Cores: 8}
		town.publish(at.id.ID(), d)
	}
	publish(lobby, operators.Description{Kind: "phone", Name: "lobby", Operators: []operators.Spec{
		spec("microphone", "", "text/t0"), spec("speaker", "text/t5", ""),
	}})
	for i, p := range proxies {
		publish(p, operators.Description{Kind: operators.KindProxy, Name: p.id.ID().Name()})
		for n := 3 * i; n < 3*i+3 && n < 5; n++ {
			s := spec(fmt.Sprintf("step%d", n), fmt.Sprintf("text/t%d", n), fmt.Sprintf("text/t%d", n+1))
			s.Program = "step"
			publish(p, operators.Description{Kind: operators.KindOperator, Name: "operator." + s.Name, Operators: []operators.Spec{s}})
		}
	}
	return creatorOn(b, a, town)
}

// pauses are those between the ADUs that a listener hears, over all epochs.
type pauses struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
	heard   int
}

func (p *pauses) listen(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
	for {
		if _, err := in.Read(ctx); err != nil {
			return err
		}
		p.mu.Lock()
		now := time.Now()
		p.longest, p.last = max(p.longest, now.Sub(p.last)), now
		p.heard++
		p.mu.Unlock()
	}
}

// during is the longest pause from now until f has run and ten more ADUs have been heard.
func (p *pauses) during(f func()) time.Duration {
	p.mu.Lock()
	p.longest = 0
	p.mu.Unlock()
	f()
	p.mu.Lock()
	enough := p.heard + 10
	p.mu.Unlock()
	for {
		p.mu.Lock()
		heard, longest := p.heard, p.longest
		p.mu.Unlock()
		if heard >= enough {
			return longest
		}
		time.Sleep(time.Millisecond)
	}
}

// every sends an ADU each period, for as long as it may.
func every(period time.Duration) operators.Func {
	return func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		for begin, n := time.Now(), 1; ; n++ {
			if err := out.Write(ctx, connectors.ADU{Payload: []byte("x")}); err != nil {
				return err
			}
			if err := world.Sleep(ctx, time.Until(begin.Add(time.Duration(n)*period))); err != nil {
				return err
			}
		}
	}
}

// BenchmarkMove measures the longest pause that a listener hears, of ADUs that are sent every millisecond, when a path of five
// operators on two proxies is made anew beside itself and its stages go on. The floor is the pause when the old path is broken before
// the new one is made; quiet is the longest pause in as long a time without a change.
func BenchmarkMove(b *testing.B) {
	p := &pauses{}
	c, _ := chain(b, every(time.Millisecond), p.listen)
	ctx, token := context.Background(), []byte("0123456789abcdef")
	of, s, err := c.plan(ctx, ann, Request{Path: string(token), Line: "phone:lobby ! phone:lobby", Capability: token})
	if err != nil {
		b.Fatal(err)
	}
	epoch := uint32(0)
	var now *flow
	set := func(beside bool) {
		epoch++
		f := of.flow(c.cfg.Open, s.print, epoch)
		if beside {
			f.carry(now, drain)
		}
		if err := f.set(ctx, token, beside); err != nil {
			b.Fatal(err)
		}
		if err := f.start(ctx); err != nil {
			b.Fatal(err)
		}
		now = f
	}
	p.during(func() { set(false) })
	var gap, broken, quiet time.Duration
	for b.Loop() {
		old, begun := now, time.Now()
		gap += p.during(func() { set(true) })
		took := time.Since(begun)
		quiet += p.during(func() { time.Sleep(took) })
		old.leave(func(*node) bool { return false })
		broken += p.during(func() { now.tearDown(); set(false) })
	}
	now.tearDown()
	b.ReportMetric(float64(gap.Microseconds())/float64(b.N), "gap-us")
	b.ReportMetric(float64(broken.Microseconds())/float64(b.N), "floor-us")
	b.ReportMetric(float64(quiet.Microseconds())/float64(b.N), "quiet-us")
	b.ReportMetric(float64(gap)/float64(broken), "x-break-before-make")
}

func add(r *operators.Registry, key string, run operators.Func) {
	r.Add(key, func(context.Context, operators.Env) (operators.Operator, error) { return run, nil })
}

// creatorOn makes a creator that commands real nodes, with a client for its empty calls.
func creatorOn(b testing.TB, a *ca.Authority, t *town) (*Creator, apcpb.CreatorClient) {
	self, err := a.NewIdentity(ca.KindAPC, "apc")
	if err != nil {
		b.Fatal(err)
	}
	dialer := host.NewDialer(self, world.Real(), slog.New(slog.DiscardHandler))
	b.Cleanup(func() { dialer.Close() })
	c, err := New(Config{
		World: world.Real(), Log: slog.New(slog.DiscardHandler), Self: self, Find: t, MaxPaths: 1 << 20, MaxPerOwner: 1 << 20, Keep: time.Millisecond,
		Open: func(ctx context.Context, address string, id ca.ID) (Session, error) {
			return dialer.Open(ctx, address, id)
		},
		Claims: func(token []byte) (capability.Claims, error) {
			return capability.Claims{Principal: ann.ID, Path: string(token), Expires: time.Now().Add(time.Hour)}, nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	background(b, c.Run)
	server := grpc.NewServer(grpc.Creds(ca.ServerCredentials(self, nil)))
	c.Register(server)
	user, err := a.NewIdentity(ca.KindUser, "ann")
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient(listen(b, server), grpc.WithTransportCredentials(ca.ClientCredentials(user, nil)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return c, apcpb.NewCreatorClient(conn)
}

// callsOfAPath is how many calls a path over three nodes takes: open, prepare, connect and start at each, and the
// user's own.
const callsOfAPath = 3*4 + 1

// emptyCalls is how long so many calls take that do nothing.
func emptyCalls(b *testing.B, rpc apcpb.CreatorClient) time.Duration {
	const rounds = 50
	var begun time.Time
	for i := range (rounds + 1) * callsOfAPath {
		if i == callsOfAPath {
			begun = time.Now() // the connection is warm
		}
		if _, err := rpc.List(context.Background(), &apcpb.ListRequest{}); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begun) / rounds
}
