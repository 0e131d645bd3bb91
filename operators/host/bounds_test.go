package host

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/host/hostpb"
)

func TestAssignmentsAreChecked(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(a *Assignment)
		says   string // "" is accepted
	}{
		{"whole", func(*Assignment) {}, ""},
		{"no name", func(a *Assignment) { a.Path = "" }, "a name of 1"},
		{"control bytes in the name", func(a *Assignment) { a.Path = "a\x1b[2J" }, "a name of 1"},
		{"no epoch", func(a *Assignment) { a.Epoch = 0 }, "epoch from 1"},
		{"endless lease", func(a *Assignment) { a.Lease = 2 * MaxLease }, "lease"},
		{"no stages", func(a *Assignment) { a.Stages = nil }, "0 stages"},
		{"two stages of one name", func(a *Assignment) { a.Stages[1].ID = "talk" }, "twice"},
		{"no ends", func(a *Assignment) { a.Stages[0].Out = nil }, "neither an inbound"},
		{"half a hop inside", func(a *Assignment) { a.Stages[0].Out.Hop = "2" }, "one end in this assignment"},
		{"two types of one hop", func(a *Assignment) { a.Stages[0].Out.Type = audio }, `"audio/L16" at`},
		{"no type", func(a *Assignment) { a.Stages[0].Out.Type, a.Stages[1].In.Type = noType, noType }, "wants a type"},
		{"nobody at the other end", func(a *Assignment) { a.Stages[0].Out.Transport = "tcp" }, "identity of its other end"},
		{"long argument", func(a *Assignment) { a.Stages[0].Args = map[string]string{"x": strings.Repeat("x", MaxValue+1)} }, "argument"},
		{"negative cost", func(a *Assignment) { a.Stages[0].CPU = -1 }, "share of a core"},
		{"great capability", func(a *Assignment) { a.Capability = make([]byte, MaxCapability+1) }, "capability"},
	} {
		a := talker("p", 1)
		tc.change(&a)
		err := a.check(32)
		if tc.says == "" && err != nil || tc.says != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestMailbox(t *testing.T) {
	m := newMailbox[int]()
	take := func() (all []int) {
		for {
			v, ok, _ := m.take()
			if !ok {
				return all
			}
			all = append(all, v)
		}
	}
	for i := range 3 * maxNotes {
		m.note(1000 + i)
		m.heartbeat(-i)
	}
	m.put(1)
	m.put(2)
	all := take()
	if n := len(all); n != maxNotes+3 || all[n-3] != 1 || all[n-2] != 2 || all[n-1] != -3*maxNotes+1 {
		t.Fatalf("took %v", all)
	}
	for i := range maxLetters {
		m.put(i)
	}
	if _, ok, overflowed := m.take(); !ok || overflowed {
		t.Fatal("overflowed too early")
	}
	m.put(1)
	m.put(2)
	if _, ok, overflowed := m.take(); ok || !overflowed {
		t.Fatal("not overflowed")
	}
}

// Whatever a creator sends, the host lives, answers or refuses, and holds no path that it has not checked.
func FuzzCommand(f *testing.F) {
	for _, c := range []*hostpb.Command{
		{Id: 1, Do: &hostpb.Command_Prepare{Prepare: assignmentToWire(talker("p", 1))}},
		{Id: 2, Do: &hostpb.Command_Attach{Attach: &hostpb.Attach{Path: "p", Epoch: 1}}},
		{Id: 3, Do: &hostpb.Command_Connect{Connect: &hostpb.Connect{Addresses: map[string]string{"1": "mem://x:1/00"}}}},
		{Id: 4, Do: &hostpb.Command_Start{}},
		{Id: 5, Do: &hostpb.Command_Renew{Renew: &hostpb.Renew{LeaseNanos: 1e9, Capability: []byte("c")}}},
		{Id: 6, Do: &hostpb.Command_Close{}},
		{Id: 7, Do: &hostpb.Command_Prepare{}},
	} {
		b, err := proto.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	authority, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		f.Fatal(err)
	}
	id, err := authority.NewIdentity(ca.KindProxy, "a")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m hostpb.Command
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		h, err := New(Config{
			Identity: id, World: world.Real(), Registry: programs(nil), StopTimeout: time.Second,
			Permit: func(context.Context, ca.Peer, Assignment) error { return nil },
		})
		must(t, err)
		c := &conversation{host: h, creator: ca.Peer{ID: "spiffe://test/apc/a"}, out: newMailbox[*hostpb.Event]()}
		for _, m := range []*hostpb.Command{&m, {Id: 1 << 32, Do: &hostpb.Command_Start{}}, &m} {
			if err := c.command(t.Context(), m); err != nil {
				c.out.put(replyEvent(m.Id, nil, err))
			}
		}
		for _, p := range h.all() {
			p.cancel(errStopping)
			<-p.done
		}
		for {
			e, ok, _ := c.out.take()
			if !ok {
				return
			}
			if _, err := proto.Marshal(e); err != nil { // text that is no UTF-8 would end the stream
				t.Fatalf("%v cannot be sent: %v", e, err)
			}
		}
	})
}

// What a host sends is bounded by its creator too.
func FuzzReport(f *testing.F) {
	b, err := proto.Marshal(&hostpb.Report{Kind: hostpb.Report_FAULT, Stage: "s", Text: "t", Stages: statsToWire([]StageStats{{ID: "x"}})})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m hostpb.Report
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		r := reportFrom("n", &m)
		if len(r.Text) > maxText || len(r.Stage) > MaxName || len(r.NoteKind) > maxNoteKind {
			t.Fatalf("too much: %+v", r)
		}
	})
}

var (
	audio  = connectors.MustType("audio/L16")
	noType connectors.Type
)

// An operator's panic while it is made is refused with its program's name.
func TestPanicInAFactory(t *testing.T) {
	s := newScene(t)
	n := s.host("a", func(c *Config) {
		c.Registry.Add("explodes", func(context.Context, operators.Env) (operators.Operator, error) { panic("boom") })
	})
	a := talker("p", 1)
	a.Stages[1].Program = "explodes"
	if _, err := s.open(n).Prepare(t.Context(), a); err == nil || !strings.Contains(err.Error(), `program "explodes" panicked: boom`) {
		t.Fatalf("got %v", err)
	}
}

// A creator that is gone for good costs a host nothing: its streams are ended, its paths end with their leases.
func TestIdleStreamsEnd(t *testing.T) {
	s := newScene(t)
	n := s.host("a", func(c *Config) { c.SetupTimeout = 20 * time.Millisecond })
	session := s.open(n)
	for range session.Reports() {
	}
	if err := session.Err(); err == nil || !strings.Contains(err.Error(), "named none in time") {
		t.Fatalf("ended with %v", err)
	}
}

// A host that stops takes its paths down and says so.
func TestHostStops(t *testing.T) {
	s := newScene(t)
	h, err := New(Config{
		Identity: s.identity(ca.KindUnit, "u"), World: world.Real(), Registry: programs(s.sunk),
		Permit: func(context.Context, ca.Peer, Assignment) error { return nil },
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	first := command{id: 1, box: newMailbox[*hostpb.Event]()}
	creator := ca.Peer{ID: s.creator.ID()}
	_, err = h.begin(t.Context(), creator, talker("p", 1), first)
	must(t, err)
	cancel()
	<-ended
	if _, err := h.begin(t.Context(), creator, talker("q", 1), first); !errors.Is(err, ErrFull) || len(h.Paths()) != 0 {
		t.Fatalf("a stopped host took a path: %v", err)
	}
}

func TestFetchedIsBounded(t *testing.T) {
	var f fetched
	big := make([]byte, MaxData)
	for _, hash := range []string{"a", "b", "c", "d", "a"} {
		f.put(hash, big)
	}
	if f.get("a") == nil || f.bytes != maxFetched {
		t.Fatal("what fits is not kept")
	}
	f.put("e", big)
	if f.get("b") != nil || f.get("a") == nil || f.get("e") == nil || f.bytes != maxFetched || len(f.kept) != 4 {
		t.Fatalf("kept %d bytes of %d", f.bytes, len(f.kept))
	}
}
