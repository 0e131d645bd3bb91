package apc

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
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
	c, rpc, heard := chain(b)
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

// chain is a creator with real nodes for a path of five operators on two proxies between the ends of a unit; heard gets
// something when the first ADU of a path has come through.
func chain(b *testing.B) (c *Creator, rpc apcpb.CreatorClient, heard chan struct{}) {
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		b.Fatal(err)
	}
	heard = make(chan struct{}, 1)
	unit, work := new(operators.Registry), new(operators.Registry)
	add(unit, "microphone", func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		if err := out.Write(ctx, connectors.ADU{Payload: []byte("x")}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	add(unit, "speaker", func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
		if _, err := in.Read(ctx); err != nil {
			return err
		}
		heard <- struct{}{}
		<-ctx.Done()
		return nil
	})
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
	c, rpc = creatorOn(b, a, town)
	return c, rpc, heard
}

// BenchmarkMove measures how long the data pauses when a path of five operators on two proxies is made anew beside
// itself: from the first node's start until the first ADU has come through the new epoch. The floor is what it would be if the old
// path were broken before the new one is made: a set-up as BenchmarkSetUp measures it, without planning.
func BenchmarkMove(b *testing.B) {
	c, _, heard := chain(b)
	ctx, token := context.Background(), []byte("0123456789abcdef")
	p, s, err := c.plan(ctx, ann, Request{Path: string(token), Line: "phone:lobby ! phone:lobby", Capability: token})
	if err != nil {
		b.Fatal(err)
	}
	epoch := uint32(0)
	set := func(beside bool) (f *flow, paused time.Duration) {
		epoch++
		f = p.flow(c.cfg.Open, s.print, epoch)
		begun := time.Now()
		if err := f.set(ctx, token, beside); err != nil {
			b.Fatal(err)
		}
		if beside {
			begun = time.Now()
		}
		if err := f.start(ctx); err != nil {
			b.Fatal(err)
		}
		<-heard
		return f, time.Since(begun)
	}
	old, _ := set(false)
	var gap, broken time.Duration
	for b.Loop() {
		next, paused := set(true)
		gap += paused
		old.leave(func(*node) bool { return false })
		next.tearDown()
		old, paused = set(false)
		broken += paused
	}
	old.tearDown()
	b.ReportMetric(float64(gap.Microseconds())/float64(b.N), "gap-us")
	b.ReportMetric(float64(broken.Microseconds())/float64(b.N), "floor-us")
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
