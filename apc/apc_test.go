package apc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/host"
	"ninja/sds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// town is a system in memory: descriptions that can be found, and nodes that keep a diary of what they are told.
type town struct {
	mu      sync.Mutex
	found   []sds.Found
	kinds   []string // of what is found
	diary   []string
	nodes   map[ca.ID]*fakeNode
	refuse  map[ca.ID]error // what a node answers to Prepare
	dead    map[ca.ID]bool  // it has forgotten its paths
	away    map[ca.ID]bool  // it cannot be reached
	denies  map[ca.ID]error // what a node answers to renewals
	revoked error           // what capabilities are found to be
	life    time.Duration   // of the nodes' certificates when they prepare; zero is not told
}

type fakeNode struct {
	town    *town
	id      ca.ID
	reports chan host.Report
	closed  bool

	certified time.Time
	epoch     uint32
	beside    bool
	drain     time.Duration
	carries   map[string]string // stages that go on, by what they are now
}

func (t *town) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.diary = append(t.diary, fmt.Sprintf(format, args...))
}

// QueryAs finds by the kind and the name that Template asks for, as the real server does.
func (t *town) QueryAs(_ context.Context, _ []byte, q sds.Query) ([]sds.Found, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []sds.Found
	for i, f := range t.found {
		kind, name := t.kinds[i], f.Name
		if string(q.Template) == string(Template(kind, "")) || string(q.Template) == string(Template(kind, name)) {
			all = append(all, f)
		}
	}
	return all, nil
}

func (t *town) open(_ context.Context, address string, id ca.ID) (Session, error) {
	n := &fakeNode{town: t, id: id, reports: make(chan host.Report, 64)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.away[id] {
		return nil, errors.New("connection refused")
	}
	if t.life > 0 {
		n.certified = time.Now().Add(t.life)
	}
	t.nodes[id] = n
	return n, nil
}

func (n *fakeNode) Prepare(_ context.Context, a host.Assignment) (map[string]string, error) {
	if err := n.town.refuse[n.id]; err != nil {
		return nil, err
	}
	addresses := make(map[string]string)
	var programs []string
	for _, s := range a.Stages {
		programs = append(programs, s.Program)
		if s.In != nil && s.In.Transport != host.Mem {
			addresses[s.In.Hop] = s.In.Transport + "://" + n.id.Name()
		}
	}
	n.town.note("prepare %s: %s", n.id.Name(), strings.Join(programs, " "))
	n.epoch, n.beside, n.drain, n.carries = a.Epoch, a.Beside, a.Drain, make(map[string]string)
	for _, s := range a.Stages {
		if s.Carry != "" {
			n.carries[s.ID] = s.Carry
		}
	}
	return addresses, nil
}

func (n *fakeNode) Attach(context.Context, string, uint32, []byte) (map[string]string, error) {
	if n.town.dead[n.id] {
		return nil, host.ErrNotFound
	}
	n.town.note("attach %s", n.id.Name())
	return nil, nil
}

func (n *fakeNode) Connect(_ context.Context, addresses map[string]string) error {
	n.town.note("connect %s: %d", n.id.Name(), len(addresses))
	return nil
}

func (n *fakeNode) Start(context.Context) error { n.town.note("start %s", n.id.Name()); return nil }

func (n *fakeNode) RenewUnder(_ context.Context, _ time.Duration, token []byte) error {
	n.town.mu.Lock()
	defer n.town.mu.Unlock()
	n.town.diary = append(n.town.diary, "renew "+n.id.Name())
	return n.town.denies[n.id]
}

func (n *fakeNode) Certified() time.Time { return n.certified }

func (n *fakeNode) Detach() { n.town.note("detach %s", n.id.Name()) }

// tell reports something, unless the session has ended.
func (n *fakeNode) tell(r host.Report) {
	n.town.mu.Lock()
	defer n.town.mu.Unlock()
	if !n.closed {
		n.reports <- r
	}
}

func (n *fakeNode) Reports() <-chan host.Report { return n.reports }

func (n *fakeNode) Close(context.Context) error {
	n.town.note("close %s", n.id.Name())
	n.town.mu.Lock()
	defer n.town.mu.Unlock()
	if !n.closed {
		n.closed = true
		close(n.reports)
	}
	return nil
}

const dom = "spiffe://test/"

// publish adds a description.
func (t *town) publish(owner ca.ID, d operators.Description) {
	b, err := d.Marshal()
	if err != nil {
		panic(err)
	}
	t.kinds = append(t.kinds, d.Kind)
	t.found = append(t.found, sds.Found{
		ID: string(owner) + "#" + d.Name, Owner: owner, Name: d.Name, Version: 1, Description: b, Numbers: map[string]float64{"load": 0.1},
	})
}

func spec(name, in, out string) operators.Spec {
	s := operators.Spec{Name: name, Program: name, Cost: operators.Cost{CPU: 0.1, Latency: 1e6, Memory: 1 << 20, Quality: 1}}
	if in != "" {
		s.In = operators.MustPattern(in)
	}
	if out != "" {
		s.Out = operators.MustPattern(out)
	}
	return s
}

// newTown has a telephone, two proxies that can translate, and an oracle on a base node that speaks only Latin.
func newTown() *town {
	t := &town{nodes: make(map[ca.ID]*fakeNode), refuse: make(map[ca.ID]error), dead: make(map[ca.ID]bool), away: make(map[ca.ID]bool), denies: make(map[ca.ID]error)}
	at := func(name string) *operators.Node {
		return &operators.Node{Control: name + ":1", Data: name + ":2", Cores: 1}
	}
	t.publish(dom+"unit/lobby", operators.Description{Kind: "phone", Name: "lobby", Node: at("lobby"), Position: &operators.Position{Lat: 1},
		Operators: []operators.Spec{spec("microphone", "", "text/plain;lang=en"), spec("speaker", "text/plain;lang=en", "")}})
	t.publish(dom+"base/b", operators.Description{Kind: "oracle", Name: "delphi", Node: at("b"),
		Operators: []operators.Spec{spec("delphi/answer", "text/plain;lang=la", "text/plain;lang=la")}})
	for _, p := range []string{"p1", "p2"} {
		owner := ca.ID(dom + "proxy/" + p)
		t.publish(owner, operators.Description{Kind: operators.KindProxy, Name: p, Node: at(p)})
		for _, s := range []operators.Spec{spec("to-latin", "text/plain;lang=en", "text/plain;lang=la"), spec("to-english", "text/plain;lang=la", "text/plain;lang=en")} {
			t.publish(owner, operators.Description{Kind: operators.KindOperator, Name: "operator." + s.Name, Node: at(p), Operators: []operators.Spec{s}})
		}
	}
	return t
}

const line = "phone:lobby ! ?oracle ! phone:lobby"

var ann = ca.Peer{ID: dom + "user/ann"}

// creator makes a running creator; the capability's text is the path that it is for.
func (t *town) creator(ctx context.Context, test *testing.T, life time.Duration) *Creator {
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		test.Fatal(err)
	}
	self, err := a.NewIdentity(ca.KindAPC, "apc")
	if err != nil {
		test.Fatal(err)
	}
	c, err := New(Config{
		World: world.Real(), Log: slog.New(slog.DiscardHandler), Self: self, Find: t, Open: t.open,
		Claims: func(token []byte) (capability.Claims, error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			return capability.Claims{Principal: ann.ID, Path: string(token), Expires: time.Now().Add(life)}, t.revoked
		},
	})
	if err != nil {
		test.Fatal(err)
	}
	go c.Run(ctx)
	synctest.Wait()
	return c
}

const id = "0123456789abcdef"

func ask() Request { return Request{Path: id, Line: line, Capability: []byte(id)} }

// Section 7.2, step 3: operators are started, connectors set up, then data flow is started; step 4: on request the flow
// is stopped and everything shut down.
func TestAPathIsMadeAndTakenDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		town := newTown()
		c := town.creator(ctx, t, time.Hour)
		info, err := c.Create(ctx, ann, ask())
		if err != nil {
			t.Fatal(err)
		}
		var chain []string
		for _, s := range info.Steps {
			chain = append(chain, s.Operator)
		}
		if got := strings.Join(chain, " "); got != "microphone to-latin delphi/answer to-english speaker" {
			t.Errorf("the chain is %s", got)
		}
		starts := town.entries("start")
		if starts[len(starts)-1] != "start lobby" {
			t.Errorf("the source's node starts last, but the order was %v", starts)
		}
		if _, err := c.Show("spiffe://test/user/eve", id); !errors.Is(err, ErrNoPath) {
			t.Errorf("another user's path is not hidden: %v", err)
		}
		time.Sleep(lease)
		if n := len(town.entries("renew")); n < 2*len(starts) {
			t.Errorf("%d renewals within a lease of %d nodes", n, len(starts))
		}
		if info, err = c.Delete(ctx, ann.ID, id); err != nil || info.State != Ended {
			t.Errorf("deleted: %v %v", info.State, err)
		}
		if closes := town.entries("close"); len(closes) != len(starts) {
			t.Errorf("of %d nodes %d were closed", len(starts), len(closes))
		}
	})
}

func (t *town) entries(of string) (e []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.diary {
		if strings.HasPrefix(d, of) {
			e = append(e, d)
		}
	}
	return e
}

// A fault names who failed, and takes the whole path down; so does a lost node; so does a capability that lapses.
func TestWhatEndsAPath(t *testing.T) {
	for _, tc := range []struct {
		name string
		life time.Duration
		do   func(*town)
		want State
		why  string
	}{
		{"fault", time.Hour, func(w *town) {
			w.nodes[dom+"base/b"].tell(host.Report{Kind: host.Fault, Stage: "3-answer", Text: "the oracle is silent"})
		}, Failed, "3-answer at spiffe://test/base/b: the oracle is silent; no path can meet the request: every path needs something that is excluded (spiffe://test/base/b)"},
		{"lost", time.Hour, func(w *town) { w.dead[dom+"base/b"] = true; _ = w.nodes[dom+"base/b"].Close(context.Background()) }, Failed,
			"control of spiffe://test/base/b at b:1 is lost: no such path; no path can meet the request: every path needs something that is excluded (spiffe://test/base/b)"},
		{"ended", time.Hour, func(w *town) {
			for _, n := range w.nodes {
				n.tell(host.Report{Kind: host.Ended})
			}
		}, Ended, "the listener has heard the end, or hung up"},
		{"a broken hop is its neighbour's fault", time.Hour, func(w *town) {
			w.nodes[dom+"unit/lobby"].tell(host.Report{Kind: host.Fault, Stage: "1-microphone", Hop: "h", Text: "the hop broke"})
			w.nodes[dom+"base/b"].tell(host.Report{Kind: host.Fault, Stage: "3-answer", Text: "the oracle is silent"})
		}, Failed, "3-answer at spiffe://test/base/b: the oracle is silent; no path can meet the request: every path needs something that is excluded (spiffe://test/base/b)"},
		{"an endpoint", time.Hour, func(w *town) {
			w.nodes[dom+"unit/lobby"].tell(host.Report{Kind: host.Fault, Stage: "1-microphone", Text: "it is broken"})
		}, Failed, "1-microphone at spiffe://test/unit/lobby: it is broken"},
		{"hung up", time.Hour, func(w *town) {
			w.nodes[dom+"base/b"].tell(host.Report{Kind: host.Fault, Stage: "3-answer", Hop: "h", Text: "the hop broke"})
			w.nodes[dom+"unit/lobby"].tell(host.Report{Kind: host.Ended})
		}, Ended, "the listener has heard the end, or hung up"},
		{"lapsed", time.Minute, func(*town) { time.Sleep(time.Minute) }, Ended, "the capability that it runs under has lapsed (ninjactl path renew renews it)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer synctest.Wait()
				defer cancel()
				town := newTown()
				c := town.creator(ctx, t, tc.life)
				if _, err := c.Create(ctx, ann, ask()); err != nil {
					t.Fatal(err)
				}
				tc.do(town)
				var last Event
				if err := c.Watch(ctx, ann.ID, id, func(e Event) error { last = e; return nil }); err != nil {
					t.Fatal(err)
				}
				info, err := c.Show(ann.ID, id)
				if err != nil || info.State != tc.want || info.Why != tc.why {
					t.Errorf("the path is %s: %s (%v)", info.State, info.Why, err)
				}
				if last.Kind != "state" || !strings.Contains(last.Text, tc.why) {
					t.Errorf("the last event is %+v", last)
				}
				starts, closes := town.entries("start"), town.entries("close")
				if len(closes) < len(starts) {
					t.Errorf("of %d nodes %d were closed", len(starts), len(closes))
				}
			})
		})
	}
}

// The data flow never waits for control: when only the control channel broke, the creator takes control again.
func TestControlIsTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		town := newTown()
		c := town.creator(ctx, t, time.Hour)
		if _, err := c.Create(ctx, ann, ask()); err != nil {
			t.Fatal(err)
		}
		_ = town.nodes[dom+"base/b"].Close(ctx)
		time.Sleep(lease)
		if info, err := c.Show(ann.ID, id); err != nil || info.State != Running || len(town.entries("attach")) != 1 {
			t.Errorf("the path is %s: %s (%v), attached %v", info.State, info.Why, err, town.entries("attach"))
		}
		if _, err := c.Delete(ctx, ann.ID, id); err != nil {
			t.Error(err)
		}
	})
}

// A node that refuses its part is named, and what the others had prepared is taken down.
func TestANodeThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		town := newTown()
		town.refuse[dom+"base/b"] = errors.New("ann may not use delphi")
		c := town.creator(ctx, t, time.Hour)
		_, err := c.Create(ctx, ann, ask())
		if err == nil || !strings.Contains(err.Error(), "prepare spiffe://test/base/b at b:1: ann may not use delphi") {
			t.Errorf("refused with %v", err)
		}
		if opened, closes := len(town.nodes), len(town.entries("close")); closes != opened {
			t.Errorf("of %d nodes %d were closed", opened, closes)
		}
	})
}

// A request that cannot be met is refused with the reason; one for somebody else's capability is no request at all.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		town := newTown()
		c := town.creator(ctx, t, time.Hour)
		for _, tc := range []struct {
			line string
			is   error
			text string
		}{
			{"phone:attic ! ?oracle ! phone:lobby", ErrRefused, "nothing that you may find is called phone:attic"},
			{"phone:lobby ! ?printer ! phone:lobby", ErrRefused, "no service that you may find is a printer"},
			{"phone:lobby ! ?oracle ! phone:lobby latency<1ms", ErrRefused, "latency"},
			{"phone:lobby", ErrBadRequest, "two endpoints"},
		} {
			_, err := c.Plan(ctx, ann, Request{Line: tc.line})
			if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%s: %v, want %v with %q", tc.line, err, tc.is, tc.text)
			}
		}
		// Remove the translators back to English: no path is left, and the refusal says what could not be made.
		for i, f := range town.found {
			if strings.HasSuffix(f.Name, "to-english") {
				town.kinds[i] = "withdrawn"
			}
		}
		if _, err := c.Plan(ctx, ann, Request{Line: line}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "nothing makes text/plain;lang=en") {
			t.Errorf("without a way back: %v", err)
		}
		if _, err := c.Plan(ctx, ca.Peer{ID: dom + "user/eve"}, Request{Line: line}); !errors.Is(err, ErrBadRequest) {
			t.Errorf("with somebody else's capability: %v", err)
		}
	})
}

// What nodes report of a running path is learned, and the plans that it would go over to are made ahead: here either
// proxy could be done without, the oracle and the telephone could not.
func TestSparesAndReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		town := newTown()
		c := town.creator(ctx, t, time.Hour)
		made, err := c.Create(ctx, ann, ask())
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if info, err := c.Show(ann.ID, id); err != nil || info.Spares != 1 {
			t.Errorf("%d spare plans (%v)", info.Spares, err)
		}
		s := made.Steps[1]
		for n := range 6 {
			stats := host.StageStats{ID: s.Stage, Process: time.Second, ProcessP99: time.Second, CPU: 0.3}
			stats.Out.ADUs = uint64(n / 2)
			if stats.In.ADUs = uint64(n); n == 1 { // every other one says nothing new
				stats.Process = time.Hour
			}
			town.nodes[s.Node].tell(host.Report{Kind: host.Heartbeat, Stages: []host.StageStats{stats}})
			town.nodes[dom+"base/b"].tell(host.Report{Kind: host.Heartbeat, Stages: []host.StageStats{stats}}) // of another's stage
		}
		synctest.Wait()
		if c.learned.cost(s.name, s.Node) != nil {
			t.Error("two reports that said something, and a conclusion")
		}
		for n := range 6 {
			stats := host.StageStats{ID: s.Stage, Process: time.Second, ProcessP99: time.Second, CPU: 0.3}
			stats.In.ADUs, stats.Out.ADUs = uint64(10+n), uint64(10+n)
			town.nodes[s.Node].tell(host.Report{Kind: host.Heartbeat, Stages: []host.StageStats{stats}})
		}
		synctest.Wait()
		if got := c.learned.cost(s.name, s.Node); got == nil || got.Latency != operators.Latency(time.Second) || got.CPU != 0.3 || got.Memory != 1<<20 {
			t.Errorf("learned %+v", got)
		}
		if again, err := c.Plan(ctx, ann, Request{Line: line}); err != nil || again.Steps[1].Node == s.Node {
			t.Errorf("the plan is still at %s (%v)", s.Node, err)
		}
		if _, err := c.Delete(ctx, ann.ID, id); err != nil {
			t.Error(err)
		}
	})
}
