package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/host/hostpb"
)

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
	a, b := s.host("a", func(c *Config) { c.SetupTimeout = time.Second }), s.host("b", nil)
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
	// The neighbour has told that its hop broke, and waits for another one for a while.
	beat := until(t, first, Heartbeat)
	if beat.Stages[0].State != Running {
		t.Fatalf("stages %+v", beat.Stages)
	}
	for beat.Stages[0].State != Failed {
		beat = until(t, first, Heartbeat)
	}
	// The rest of the assignment runs on.
	if beat.Stages[1].State != Running || beat.Stages[2].State != Running {
		t.Fatalf("stages %+v", beat.Stages)
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

// Make before break: what is prepared beside an older epoch leaves it running until it starts itself; when it never
// starts, the older one goes on.
func TestANewerEpochBesideAnOlder(t *testing.T) {
	s := newScene(t)
	n := s.host("a", nil)
	ctx := t.Context()
	beside := func(epoch uint32) Assignment {
		a := talker("p", epoch)
		a.Beside = true
		return a
	}
	old, dropped, second, third := s.open(n), s.open(n), s.open(n), s.open(n)
	_, err := old.Prepare(ctx, talker("p", 1))
	must(t, err)
	must(t, old.Start(ctx))
	_, err = dropped.Prepare(ctx, beside(2))
	must(t, err)
	must(t, old.Renew(ctx, time.Minute))
	if ends := dropped.Certified(); !ends.After(time.Now()) {
		t.Fatalf("the node's certificate ends at %v", ends)
	}
	must(t, dropped.Close(ctx))
	must(t, old.Renew(ctx, time.Minute))
	if _, err := s.open(n).Attach(ctx, "p", 1, nil); err != nil {
		t.Fatalf("the older epoch is in the books again: %v", err)
	}
	_, err = second.Prepare(ctx, beside(3)) // never started: the next takes its place
	must(t, err)
	_, err = third.Prepare(ctx, beside(4))
	must(t, err)
	if paths := n.Paths(); len(paths) != 2 {
		t.Fatalf("%d epochs run or are prepared", len(paths))
	}
	must(t, third.Start(ctx))
	if paths := n.Paths(); len(paths) != 1 || paths[0].Epoch != 4 {
		t.Fatalf("after the start there are %+v", paths)
	}
	if err := old.Renew(ctx, time.Minute); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrFenced) {
		t.Fatalf("renewed the replaced epoch: %v", err)
	}
	must(t, third.Close(ctx))
	if paths := n.Paths(); len(paths) != 0 {
		t.Fatalf("after the end there are %+v", paths)
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

// A creator need not wait for a slow set-up: it can take it back.
func TestCloseDuringPrepare(t *testing.T) {
	s := newScene(t)
	entered := make(chan struct{})
	n := s.host("a", func(c *Config) {
		c.Registry.Add("slow", func(ctx context.Context, _ operators.Env) (operators.Operator, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	session := s.open(n)
	a := talker("p", 1)
	a.Stages[1].Program = "slow"
	refused := make(chan error, 1)
	go func() {
		_, err := session.Prepare(t.Context(), a)
		refused <- err
	}()
	<-entered
	began := time.Now()
	must(t, session.Close(t.Context()))
	if err := <-refused; err == nil || time.Since(began) > 5*time.Second {
		t.Fatalf("prepared after %v: %v", time.Since(began), err)
	}
	if len(n.Paths()) != 0 {
		t.Fatal("the path is still there")
	}
}

// Many paths come and go at once over two hosts, some closed, some left to the hosts' end; TestMain sees what leaks.
func TestManyPaths(t *testing.T) {
	s := newScene(t)
	a, b := s.host("a", nil), s.host("b", nil)
	d := s.dialer(s.creator)
	var work sync.WaitGroup
	for i := range 40 {
		work.Go(func() {
			if err := onePath(t.Context(), d, a, b, fmt.Sprint("p", i), i%4 != 0); err != nil {
				t.Errorf("path %d: %v", i, err)
			}
		})
	}
	work.Wait()
	if len(a.Paths()) != 10 || len(b.Paths()) != 10 || s.wires.open() != 0 {
		t.Fatalf("%d and %d paths, %d hops are left", len(a.Paths()), len(b.Paths()), s.wires.open())
	}
}

func onePath(ctx context.Context, d *Dialer, a, b node, name string, closes bool) error {
	first, err := d.Open(ctx, a.address, a.id)
	if err != nil {
		return err
	}
	defer first.Detach()
	second, err := d.Open(ctx, b.address, b.id)
	if err != nil {
		return err
	}
	defer second.Detach()
	_, err = first.Prepare(ctx, Assignment{Path: name, Epoch: 1, Stages: []Stage{step("talk", "talk", nil, wireTo("1", b.id))}})
	if err != nil {
		return err
	}
	addresses, err := second.Prepare(ctx, Assignment{Path: name, Epoch: 1, Stages: []Stage{step("sink", "sink", wireTo("1", a.id), nil)}})
	if err != nil {
		return err
	}
	if err := errors.Join(first.Connect(ctx, addresses), second.Start(ctx), first.Start(ctx)); err != nil || !closes {
		return err
	}
	return errors.Join(first.Close(ctx), second.Close(ctx))
}
