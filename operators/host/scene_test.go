package host

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/internal/world"
	"ninja/operators"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var plain = connectors.MustType("text/plain;lang=en")

// wires is a transport between hosts of one process.
type wires struct {
	mu      sync.Mutex
	pending map[string]*wire
}

type wire struct {
	at   *wires
	hop  connectors.Hop
	came chan connectors.Reader
}

func newWires() *wires { return &wires{pending: make(map[string]*wire)} }

func (w *wires) Scheme() string { return "wire" }

func (w *wires) Listen(_ context.Context, h connectors.Hop) (connectors.Pending, error) {
	p := &wire{at: w, hop: h, came: make(chan connectors.Reader, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[p.Address()] = p
	return p, nil
}

func (w *wires) Dial(_ context.Context, address string, h connectors.Hop) (connectors.Writer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pending[address]
	if p == nil || p.hop.Stream != h.Stream || p.hop.Epoch != h.Epoch || p.hop.Type != h.Type {
		return nil, errors.New("nobody listens")
	}
	delete(w.pending, address)
	out, in := mem.Pair(4)
	p.came <- in
	return out, nil
}

func (w *wires) open() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

func (p *wire) Address() string { return "wire://test:1/" + hex.EncodeToString(p.hop.Stream[:]) }

func (p *wire) Accept(ctx context.Context) (connectors.Reader, error) {
	select {
	case r := <-p.came:
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *wire) Close() error {
	p.at.mu.Lock()
	defer p.at.mu.Unlock()
	delete(p.at.pending, p.Address())
	return nil
}

// programs are the operators of the tests.
func programs(sunk chan<- string) *operators.Registry {
	var r operators.Registry
	add := func(key string, run operators.Func) {
		r.Add(key, func(context.Context, operators.Env) (operators.Operator, error) { return run, nil })
	}
	add("count", func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		for i := range 3 {
			if err := out.Write(ctx, connectors.ADU{Payload: fmt.Append(nil, i)}); err != nil {
				return err
			}
		}
		return nil
	})
	add("talk", func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		for ctx.Err() == nil {
			if err := out.Write(ctx, connectors.ADU{Payload: []byte("x")}); err != nil {
				return err
			}
			if err := world.Sleep(ctx, 5*time.Millisecond); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	add("upper", func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
			a.Payload = append(a.Payload, '!')
			return a, nil
		}).Run(ctx, in, out)
	})
	add("speech", speak)
	add("pass", func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) { return a, nil }).Run(ctx, in, out)
	})
	add("sink", func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
		for {
			a, err := in.Read(ctx)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			select {
			case sunk <- string(a.Payload):
			default:
			}
		}
	})
	add("panics", func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
		if _, err := in.Read(ctx); err != nil {
			return err
		}
		panic("boom")
	})
	r.Add("noisy", func(_ context.Context, env operators.Env) (operators.Operator, error) {
		return operators.Func(func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
			for range 10000 {
				env.Note("recognised", strings.Repeat("é\xff", 2000))
			}
			<-ctx.Done()
			return ctx.Err()
		}), nil
	})
	r.Add("unmade", func(context.Context, operators.Env) (operators.Operator, error) {
		return nil, errors.New("the grammar cannot be had")
	})
	return &r
}

// world of one test: an authority, a creator, hosts.
type scene struct {
	t         testing.TB
	authority *ca.Authority
	creator   *ca.Identity
	wires     *wires
	sunk      chan string
}

func newScene(t testing.TB) *scene {
	authority, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, authority: authority, wires: newWires(), sunk: make(chan string, 100)}
	s.creator = s.identity(ca.KindAPC, "apc")
	return s
}

func (s *scene) identity(kind, name string) *ca.Identity {
	id, err := s.authority.NewIdentity(kind, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

type node struct {
	*Host
	id      ca.ID
	address string
	stop    func() // ends the host as the end of its process does
}

// host starts a host behind a real listener. Both end with the test.
func (s *scene) host(name string, change func(*Config)) node {
	id := s.identity(ca.KindProxy, name)
	cfg := Config{
		Identity: id, World: world.Real(), Registry: programs(s.sunk), Transports: []connectors.Transport{s.wires},
		Permit:    func(context.Context, ca.Peer, Assignment) error { return nil },
		Heartbeat: 20 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	h, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(ca.ServerCredentials(id, nil)))
	h.Register(server)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { server.Serve(listener) })
	work.Go(func() { h.Run(ctx) })
	s.t.Cleanup(func() { cancel(); server.Stop(); work.Wait() })
	return node{h, id.ID(), listener.Addr().String(), cancel}
}

func (s *scene) dialer(id *ca.Identity) *Dialer {
	d := NewDialer(id, world.Real(), nil)
	s.t.Cleanup(func() { d.Close() })
	return d
}

func (s *scene) open(n node) *Session {
	session, err := s.dialer(s.creator).Open(s.t.Context(), n.address, n.id)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(session.Detach)
	return session
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until reads reports until one of the kind comes.
func until(t *testing.T, s *Session, kind ReportKind) Report {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case r, ok := <-s.Reports():
			if !ok {
				t.Fatalf("the session ended before a %v: %v", kind, s.Err())
			}
			if r.Kind == kind {
				return r
			}
			if r.Kind == Fault {
				t.Fatalf("fault instead of a %v: %+v", kind, r)
			}
		case <-late:
			t.Fatalf("no %v came", kind)
		}
	}
}

func step(id, program string, in, out *HopEnd) Stage {
	return Stage{ID: id, Program: program, In: in, Out: out}
}

func within(hop string) *HopEnd { return &HopEnd{Hop: hop, Transport: Mem, Type: plain} }

func wireTo(hop string, peer ca.ID) *HopEnd {
	return &HopEnd{Hop: hop, Transport: "wire", Type: plain, Peer: peer}
}

// untilFault reads until a fault.
func untilFault(t *testing.T, s *Session) Report {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case r := <-s.Reports():
			if r.Kind == Fault {
				return r
			}
		case <-late:
			t.Fatal("no fault came")
		}
	}
}
