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
	"testing/synctest"
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
	"ninja/operators/host/hostpb"
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
	return node{h, id.ID(), listener.Addr().String()}
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

// "Once all nodes in the path are set up, data flow is started" (7.2, step 3).
func TestPathOverTwoHosts(t *testing.T) {
	s := newScene(t)
	a, b := s.host("a", nil), s.host("b", nil)
	first, second := s.open(a), s.open(b)
	ctx := t.Context()
	_, err := first.Prepare(ctx, Assignment{Path: "p", Epoch: 1, Stages: []Stage{
		step("source", "count", nil, within("1")), step("upper", "upper", within("1"), wireTo("2", b.id)),
	}})
	must(t, err)
	addresses, err := second.Prepare(ctx, Assignment{Path: "p", Epoch: 1, Stages: []Stage{
		step("again", "upper", wireTo("2", a.id), within("3")), step("sink", "sink", within("3"), nil),
	}})
	must(t, err)
	if len(addresses) != 1 || addresses["2"] == "" {
		t.Fatalf("addresses %v", addresses)
	}
	must(t, second.Connect(ctx, addresses))
	if err := first.Start(ctx); !errors.Is(err, ErrInvalid) {
		t.Fatalf("started without a connection: %v", err)
	}
	must(t, first.Connect(ctx, addresses))
	must(t, second.Start(ctx))
	must(t, first.Start(ctx))
	for _, want := range []string{"0!!", "1!!", "2!!"} {
		if got := <-s.sunk; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	end := until(t, second, Ended)
	again := end.Stages[0]
	if again.ID != "again" || again.In.ADUs != 3 || again.In.Bytes != 6 || again.Out.Bytes != 9 || again.Process <= 0 || again.State != Stopped {
		t.Fatalf("measured %+v", again)
	}
	until(t, first, Ended)
	if infos := a.Paths(); len(infos) != 1 || infos[0].Path != "p" || !infos[0].Attached {
		t.Fatalf("paths %+v", infos)
	}
	must(t, first.Close(ctx))
	must(t, second.Close(ctx))
	must(t, second.Close(ctx)) // again
	if len(a.Paths())+len(b.Paths())+s.wires.open() != 0 || a.Load() != 0 {
		t.Fatal("something is left")
	}
}

// "Operator nodes report problems to the APC facility about their neighboring nodes in the path" (7.2, step 3).
func TestPanicIsAFaultOfItsStage(t *testing.T) {
	s := newScene(t)
	a, b := s.host("a", nil), s.host("b", nil)
	first, second := s.open(a), s.open(b)
	ctx := t.Context()
	addresses, err := second.Prepare(ctx, Assignment{Path: "p", Epoch: 1, Stages: []Stage{step("bad", "panics", wireTo("1", a.id), nil)}})
	must(t, err)
	_, err = first.Prepare(ctx, Assignment{Path: "p", Epoch: 1, Stages: []Stage{
		{ID: "talk", Program: "talk", Out: wireTo("1", b.id), CPU: 0.5},
		step("other", "talk", nil, within("2")), step("sink", "sink", within("2"), nil),
	}})
	must(t, err)
	must(t, first.Connect(ctx, addresses))
	must(t, second.Start(ctx))
	must(t, first.Start(ctx))
	fault := untilFault(t, second)
	if fault.Stage != "bad" || fault.Hop != "" || !strings.Contains(fault.Text, `program "panics" panicked: boom`) || fault.Node != b.id {
		t.Fatalf("fault %+v", fault)
	}
	fault = untilFault(t, first)
	if fault.Stage != "talk" || fault.Hop != "1" || fault.Neighbour != b.id {
		t.Fatalf("fault %+v", fault)
	}
	// The rest of the assignment runs on.
	beat := until(t, first, Heartbeat)
	for beat.Stages[0].State != Failed {
		beat = until(t, first, Heartbeat)
	}
	if beat.Stages[1].State != Running || beat.Stages[2].State != Running {
		t.Fatalf("stages %+v", beat.Stages)
	}
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

func talker(path string, epoch uint32) Assignment {
	return Assignment{Path: path, Epoch: epoch, Stages: []Stage{
		step("talk", "talk", nil, within("1")), step("sink", "sink", within("1"), nil),
	}}
}

func TestFactoryFailureNamesTheProgram(t *testing.T) {
	s := newScene(t)
	n := s.host("a", nil)
	session := s.open(n)
	a := talker("p", 1)
	a.Stages[0].Program = "unmade"
	_, err := session.Prepare(t.Context(), a)
	if err == nil || !strings.Contains(err.Error(), `program "unmade": the grammar cannot be had`) {
		t.Fatalf("got %v", err)
	}
	a.Stages[0].Program = "nobody's"
	if _, err = session.Prepare(t.Context(), a); err == nil || !strings.Contains(err.Error(), `program "nobody's"`) {
		t.Fatalf("got %v", err)
	}
	if _, err = session.Prepare(t.Context(), talker("p", 1)); err != nil { // the session and the epoch are still good
		t.Fatal(err)
	}
}

func TestOlderEpochsAreFenced(t *testing.T) {
	s := newScene(t)
	n := s.host("a", nil)
	ctx := t.Context()
	old, stale, renewed := s.open(n), s.open(n), s.open(n)
	for _, session := range []*Session{old} {
		_, err := session.Prepare(ctx, talker("p", 4))
		must(t, err)
		must(t, session.Start(ctx))
	}
	if _, err := stale.Prepare(ctx, talker("p", 4)); !errors.Is(err, ErrInvalid) {
		t.Fatalf("the same epoch twice: %v", err)
	}
	_, err := renewed.Prepare(ctx, talker("p", 5))
	must(t, err)
	if r := untilFault(t, old); !strings.Contains(r.Text, "newer epoch") {
		t.Fatalf("the replaced path says %+v", r)
	}
	if err := old.Renew(ctx, time.Minute); !errors.Is(err, ErrNotFound) {
		t.Fatalf("renewed the replaced path: %v", err)
	}
	if _, err := stale.Attach(ctx, "p", 4, nil); !errors.Is(err, ErrFenced) {
		t.Fatalf("attached to an older epoch: %v", err)
	}
	must(t, renewed.Close(ctx))
	if _, err := stale.Prepare(ctx, talker("p", 4)); !errors.Is(err, ErrFenced) {
		t.Fatalf("an older epoch after the path was gone: %v", err)
	}
}

// "The data flow never waits for the control flow": the path runs on without its creator, who can come back.
func TestPathOutlivesItsControl(t *testing.T) {
	s := newScene(t)
	n := s.host("a", nil)
	ctx := t.Context()
	first := s.open(n)
	a := talker("p", 1)
	a.Stages = append(a.Stages, step("more", "talk", nil, within("2")), step("bad", "panics", within("2"), nil))
	_, err := first.Prepare(ctx, a)
	must(t, err)
	must(t, first.Start(ctx))
	untilFault(t, first)
	first.Detach()
	for n.Paths()[0].Attached {
		time.Sleep(time.Millisecond)
	}
	for range cap(s.sunk) + 10 {
		<-s.sunk // flows on
	}
	second, third := s.open(n), s.open(n)
	if _, err := second.Attach(ctx, "p", 1, nil); err != nil {
		t.Fatal(err)
	}
	if r := untilFault(t, second); r.Stage != "bad" && r.Stage != "more" {
		t.Fatalf("the fault is not told again: %+v", r)
	}
	_, err = third.Attach(ctx, "p", 1, nil)
	must(t, err)
	if err := second.Close(ctx); !errors.Is(err, ErrFenced) {
		t.Fatalf("closed by a session that has lost control: %v", err)
	}
	must(t, third.Close(ctx))
}

// A lease ends without a renewal, is extended by one, and what it ends is told.
func TestLeaseRunsOut(t *testing.T) {
	s := newScene(t)
	id := s.identity(ca.KindProxy, "a")
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{
			Identity: id, World: world.Real(), Registry: programs(s.sunk),
			Permit: func(context.Context, ca.Peer, Assignment) error { return nil },
		})
		must(t, err)
		box := newMailbox[*hostpb.Event]()
		a := talker("p", 1)
		a.Lease = 20 * time.Second
		began := time.Now()
		p, err := h.begin(t.Context(), ca.Peer{ID: s.creator.ID()}, a, command{id: 1, box: box})
		must(t, err)
		must(t, p.post(command{id: 2, box: box, do: func(ctx context.Context) (map[string]string, error) {
			return nil, p.start(ctx)
		}}))
		time.Sleep(15 * time.Second)
		must(t, p.post(command{id: 3, box: box, do: func(ctx context.Context) (map[string]string, error) {
			return nil, p.renew(ctx, ca.Peer{ID: s.creator.ID()}, 40*time.Second, nil)
		}}))
		synctest.Wait()
		if left := h.Paths()[0].Lease; left != 40*time.Second {
			t.Fatalf("%v are left", left)
		}
		<-p.done
		if lived := time.Since(began); lived < 55*time.Second || lived > 56*time.Second {
			t.Fatalf("lived for %v", lived)
		}
		synctest.Wait()
		if len(h.Paths()) != 0 || !strings.Contains(p.kept[0].Text, "lease") {
			t.Fatalf("left %v, told %v", h.Paths(), p.kept)
		}
	})
}

func TestOnlyCreatorsCommand(t *testing.T) {
	s := newScene(t)
	n := s.host("a", func(c *Config) {
		c.Permit = func(_ context.Context, who ca.Peer, a Assignment) error {
			if string(a.Capability) != "good" {
				return errors.New("the capability is not for this path")
			}
			return nil
		}
	})
	for _, kind := range []string{ca.KindUser, ca.KindProxy, ca.KindUnit, ca.KindSDS} {
		session, err := s.dialer(s.identity(kind, "x")).Open(t.Context(), n.address, n.id)
		must(t, err)
		if _, err = session.Prepare(t.Context(), talker("p", 1)); err == nil || !strings.Contains(err.Error(), "PermissionDenied") {
			t.Errorf("%s: %v", kind, err)
		}
		session.Detach()
	}
	if session, err := s.dialer(s.creator).Open(t.Context(), n.address, "spiffe://test/proxy/other"); err == nil {
		session.Detach()
		t.Error("opened a session with another node than the one wanted")
	}
	session := s.open(n)
	a := talker("p", 1)
	if _, err := session.Prepare(t.Context(), a); !errors.Is(err, ErrDenied) {
		t.Fatalf("no capability: %v", err)
	}
	a.Capability = []byte("good")
	_, err := session.Prepare(t.Context(), a)
	must(t, err)
	// Another creator cannot see or take the path.
	other, err := s.dialer(s.identity(ca.KindAPC, "other")).Open(t.Context(), n.address, n.id)
	must(t, err)
	defer other.Detach()
	if _, err := other.Attach(t.Context(), "p", 1, []byte("good")); !errors.Is(err, ErrNotFound) {
		t.Fatalf("another creator attached: %v", err)
	}
	// What is no longer permitted is torn down with the next renewal.
	if err := session.RenewUnder(t.Context(), time.Minute, []byte("revoked")); !errors.Is(err, ErrDenied) && !errors.Is(err, ErrNotFound) {
		t.Fatalf("renewed: %v", err)
	}
	if r := untilFault(t, session); !strings.Contains(r.Text, "not permitted") {
		t.Fatalf("got %+v", r)
	}
}

func TestNotesAreBounded(t *testing.T) {
	s := newScene(t)
	n := s.host("a", nil)
	session := s.open(n)
	_, err := session.Prepare(t.Context(), Assignment{Path: "p", Epoch: 1, Stages: []Stage{
		step("talk", "talk", nil, within("1")), step("noisy", "noisy", within("1"), nil),
	}})
	must(t, err)
	must(t, session.Start(t.Context()))
	notes := 0
	for beats := 0; beats < 5; {
		r := <-session.Reports()
		switch r.Kind {
		case Note:
			notes++
			if len(r.Text) > maxText || r.NoteKind != "recognised" || r.Stage != "noisy" {
				t.Fatalf("note %+v", r)
			}
		case Heartbeat:
			beats++
		}
	}
	if notes < noteBurst || notes > 2*noteBurst {
		t.Fatalf("%d of 10000 notes came through", notes)
	}
	must(t, session.Close(t.Context()))
}

func TestLimits(t *testing.T) {
	s := newScene(t)
	n := s.host("a", func(c *Config) { c.MaxPaths, c.MaxStages = 1, 2 })
	one, two := s.open(n), s.open(n)
	a := talker("p", 1)
	a.Stages = append(a.Stages, step("third", "sink", within("2"), nil))
	if _, err := one.Prepare(t.Context(), a); !errors.Is(err, ErrInvalid) {
		t.Fatalf("three stages: %v", err)
	}
	_, err := one.Prepare(t.Context(), talker("p", 1))
	must(t, err)
	if _, err := one.Prepare(t.Context(), talker("q", 1)); !errors.Is(err, ErrInvalid) {
		t.Fatalf("two paths on a stream: %v", err)
	}
	if _, err := two.Prepare(t.Context(), talker("q", 1)); !errors.Is(err, ErrFull) {
		t.Fatalf("two paths: %v", err)
	}
	must(t, one.Close(t.Context()))
	_, err = two.Prepare(t.Context(), talker("q", 1))
	must(t, err)
}
