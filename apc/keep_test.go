package apc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/operators"
	"ninja/operators/host"
)

// inTown runs a test with a path that runs through the first proxy.
func inTown(t *testing.T, life time.Duration, change func(*town), f func(ctx context.Context, w *town, c *Creator)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		w := newTown()
		if change != nil {
			change(w)
		}
		c := w.creator(ctx, t, life)
		info, err := c.Create(ctx, ann, ask())
		if err != nil || info.at(1) != "p1" {
			t.Fatalf("%v at %v", err, info.Steps)
		}
		synctest.Wait() // the spare plans are made
		f(ctx, w, c)
	})
}

// kill makes a node vanish as a killed process does: its connections break, and its neighbours say so.
func (t *town) kill(id ca.ID, neighbours ...ca.ID) {
	t.mu.Lock()
	t.away[id] = true
	n := t.nodes[id]
	var told []*fakeNode
	for _, other := range neighbours {
		told = append(told, t.nodes[other])
	}
	t.mu.Unlock()
	_ = n.Close(context.Background())
	for _, other := range told {
		other.tell(host.Report{Kind: host.Fault, Stage: "its stage", Hop: "h", Neighbour: id, Text: "connection reset"})
	}
}

func show(t *testing.T, c *Creator) Info {
	t.Helper()
	synctest.Wait()
	info, err := c.Show(ann.ID, id)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Section 7.2, step 4: when a node dies the operators are started on other nodes, and the path goes on. The plan was kept
// for the case, so nobody is asked; what dies later still is not gone back to.
func TestAKilledNodeIsReplaced(t *testing.T) {
	inTown(t, time.Hour, nil, func(ctx context.Context, w *town, c *Creator) {
		w.mu.Lock()
		w.found, w.kinds = nil, nil // the directory is away
		w.mu.Unlock()
		var events []Event
		watched := make(chan error, 1)
		go func() {
			watched <- c.Watch(ctx, ann.ID, id, func(e Event) error { events = append(events, e); return nil })
		}()
		w.kill(dom+"proxy/p1", dom+"unit/lobby", dom+"base/b")
		time.Sleep(blameTime)
		info := show(t, c)
		if info.State != Running || info.at(1) != "p2" || info.at(3) != "p2" || info.Epoch != 2 || info.Repairs != 1 || len(info.Moves) != 1 {
			t.Fatalf("%s in epoch %d: %s; %v", info.State, info.Epoch, info.Why, info.Steps)
		}
		m := info.Moves[0]
		if m.Cause != CauseRepair || !strings.Contains(m.Why, "spiffe://test/proxy/p1 is gone") || m.Before != -1 || m.After <= 0 || m.Gap > time.Second {
			t.Errorf("%+v", m)
		}
		w.mu.Lock()
		lobby, p2 := w.nodes[dom+"unit/lobby"], w.nodes[dom+"proxy/p2"]
		w.mu.Unlock()
		// What stays goes on with what it holds; what was at the dead node is made anew.
		first, last := info.Steps[0].Stage, info.Steps[len(info.Steps)-1].Stage
		if lobby.carries[first] != first || lobby.carries[last] != last || len(p2.carries) != 0 || lobby.drain != brokenDrain {
			t.Errorf("the telephone carries %v, for %v, and the other proxy %v", lobby.carries, lobby.drain, p2.carries)
		}
		if lobby.epoch != 2 || !lobby.beside {
			t.Errorf("the telephone was prepared for epoch %d, beside the old one: %v", lobby.epoch, lobby.beside)
		}
		w.kill(dom+"proxy/p2", dom+"unit/lobby", dom+"base/b")
		if err := <-watched; err != nil {
			t.Error(err)
		}
		if info := show(t, c); info.State != Failed || !strings.Contains(info.Why, "proxy/p2 is gone") {
			t.Errorf("without any proxy: %s: %s", info.State, info.Why)
		}
		var kinds []string
		for _, e := range events {
			kinds = append(kinds, e.Kind+" "+strings.SplitN(e.Text, ":", 2)[0])
		}
		if got := strings.Join(kinds, ", "); got != "state running, state repairing, move repair, state running, state repairing, fault spiffe, state failed" {
			t.Errorf("the events are %s", got)
		}
	})
}

// A node that comes back is better than none: what it was blamed for earlier counts only while there is something else.
func TestANodeThatCameBack(t *testing.T) {
	inTown(t, time.Hour, nil, func(ctx context.Context, w *town, c *Creator) {
		w.kill(dom+"proxy/p1", dom+"unit/lobby")
		time.Sleep(time.Second)
		w.mu.Lock()
		delete(w.away, dom+"proxy/p1")
		w.mu.Unlock()
		w.kill(dom+"proxy/p2", dom+"unit/lobby")
		time.Sleep(time.Second)
		if info := show(t, c); info.State != Running || info.at(1) != "p1" || info.Epoch != 3 || info.Repairs != 2 {
			t.Errorf("%s in epoch %d: %s; %v", info.State, info.Epoch, info.Why, info.Steps)
		}
	})
}

// A hop that breaks between living nodes is made again as it was: a liar moves nobody else. Who says so again is done
// without.
func TestABrokenHopIsMadeAgain(t *testing.T) {
	inTown(t, time.Hour, nil, func(ctx context.Context, w *town, c *Creator) {
		accuse := func() {
			w.mu.Lock()
			n := w.nodes[dom+"proxy/p1"]
			w.mu.Unlock()
			n.tell(host.Report{Kind: host.Fault, Stage: "2-to-latin", Hop: "h", Neighbour: dom + "base/b", Text: "the hop broke"})
			time.Sleep(blameTime)
		}
		accuse()
		if info := show(t, c); info.State != Running || info.at(1) != "p1" || info.Epoch != 2 {
			t.Fatalf("%s in epoch %d: %s; %v", info.State, info.Epoch, info.Why, info.Steps)
		}
		accuse()
		if info := show(t, c); info.State != Running || info.at(1) != "p2" || info.Epoch != 3 || info.Repairs != 2 {
			t.Fatalf("%s in epoch %d: %s; %v", info.State, info.Epoch, info.Why, info.Steps)
		}
		if _, err := c.Delete(ctx, ann.ID, id); err != nil {
			t.Error(err)
		}
	})
}

// Repairs that do not help end: a path is given up after so many within so long.
func TestRepairsAreBounded(t *testing.T) {
	inTown(t, time.Hour, nil, func(ctx context.Context, w *town, c *Creator) {
		for n := range maxRepairs + 1 {
			w.mu.Lock()
			lobby := w.nodes[dom+"unit/lobby"]
			w.mu.Unlock()
			lobby.tell(host.Report{Kind: host.Fault, Stage: "1-microphone", Hop: "h", Text: "the hop broke"})
			time.Sleep(time.Second)
			if info := show(t, c); (info.State == Running) != (n < maxRepairs) {
				t.Fatalf("after %d faults: %s: %s", n+1, info.State, info.Why)
			}
		}
		if info := show(t, c); !strings.Contains(info.Why, "5 repairs within 1m0s did not help") {
			t.Error(info.Why)
		}
	})
}

// A node that has crashed refuses to take part while a path is repaired: the next plan does without it too.
func TestARepairThatFailsIsTriedOtherwise(t *testing.T) {
	inTown(t, time.Hour, func(w *town) {
		owner := ca.ID(dom + "proxy/p3")
		w.publish(owner, operators.Description{Kind: operators.KindProxy, Name: "p3", Node: at("p3")})
		for _, s := range []operators.Spec{spec("to-latin", "text/plain;lang=en", "text/plain;lang=la"), spec("to-english", "text/plain;lang=la", "text/plain;lang=en")} {
			w.publish(owner, operators.Description{Kind: operators.KindOperator, Name: "operator." + s.Name, Node: at("p3"), Operators: []operators.Spec{s}})
		}
		for i := range w.found { // the third is the last choice
			if w.found[i].Owner == owner {
				w.found[i].Numbers = map[string]float64{"load": 0.9}
			}
		}
	}, func(ctx context.Context, w *town, c *Creator) {
		w.refuse[dom+"proxy/p2"] = errors.New("out of memory")
		w.kill(dom+"proxy/p1", dom+"unit/lobby", dom+"base/b")
		time.Sleep(2 * time.Second)
		if info := show(t, c); info.State != Running || info.at(1) != "p3" || info.Repairs != 1 {
			t.Errorf("%s: %s; %v", info.State, info.Why, info.Steps)
		}
	})
}

// Threats, row 7: a path whose rights are revoked ends within seconds and is not planned again, whether a node or the
// creator learns of it first.
func TestRevokedPathsEnd(t *testing.T) {
	for name, revoke := range map[string]func(*town){
		"a node": func(w *town) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.denies[dom+"proxy/p1"] = &host.Refused{Node: dom + "proxy/p1", Text: "not permitted"}
			w.denies[dom+"proxy/p1"] = errors.Join(w.denies[dom+"proxy/p1"], host.ErrDenied)
		},
		"the creator": func(w *town) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.revoked = errors.New("the capability was revoked")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, time.Hour, nil, func(ctx context.Context, w *town, c *Creator) {
				prepared := len(w.entries("prepare"))
				revoke(w)
				time.Sleep(5 * time.Second)
				if info := show(t, c); info.State != Ended || !strings.Contains(info.Why, errRights.Error()) {
					t.Errorf("%s: %s", info.State, info.Why)
				}
				if again := len(w.entries("prepare")); again != prepared {
					t.Errorf("%d nodes were prepared again", again-prepared)
				}
			})
		})
	}
}

// A path lives as long as it is renewed, and no longer; only its owner renews it.
func TestRenewal(t *testing.T) {
	inTown(t, time.Hour, nil, func(ctx context.Context, w *town, c *Creator) {
		if _, err := c.Renew(ctx, ca.Peer{ID: dom + "user/eve"}, id, []byte(id)); !errors.Is(err, ErrNoPath) {
			t.Errorf("by another: %v", err)
		}
		if _, err := c.Renew(ctx, ann, id, []byte("another")); !errors.Is(err, ErrBadRequest) {
			t.Errorf("with a capability for another path: %v", err)
		}
		for range 3 {
			time.Sleep(50 * time.Minute)
			info, err := c.Renew(ctx, ann, id, []byte(id))
			if err != nil || time.Until(info.Expires) != time.Hour {
				t.Fatalf("%v: until %v", err, info.Expires)
			}
		}
		time.Sleep(59 * time.Minute)
		if info := show(t, c); info.State != Running {
			t.Errorf("%s: %s", info.State, info.Why)
		}
		time.Sleep(time.Minute)
		if info := show(t, c); info.State != Ended || !strings.Contains(info.Why, "path renew") {
			t.Errorf("%s: %s", info.State, info.Why)
		}
		if _, err := c.Renew(ctx, ann, id, []byte(id)); !errors.Is(err, ErrNoPath) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// Hops end with the certificates that opened them. The path is made anew before, as it is, when its nodes have newer ones.
func TestHopsAreMadeBeforeCertificatesEnd(t *testing.T) {
	inTown(t, 24*time.Hour, func(w *town) { w.life = time.Hour }, func(ctx context.Context, w *town, c *Creator) {
		time.Sleep(time.Hour)
		info := show(t, c)
		if info.State != Running || info.Epoch != 2 || info.Moved != 1 || info.Repairs != 0 || info.Moves[0].Cause != CauseCertificates {
			t.Fatalf("%s in epoch %d: %s; %+v", info.State, info.Epoch, info.Why, info.Moves)
		}
		for i, step := range info.Steps { // all stages go on
			if n := w.nodes[step.Node]; n.carries[step.Stage] != step.Stage || n.drain != drain {
				t.Errorf("stage %d: %s carries %v, for %v", i, step.Node, n.carries, n.drain)
			}
		}
		w.mu.Lock()
		w.life = time.Minute // the authority is away
		w.mu.Unlock()
		time.Sleep(52 * time.Minute)
		if info = show(t, c); info.State != Running || info.Epoch != 2 {
			t.Errorf("%s in epoch %d: %s", info.State, info.Epoch, info.Why)
		}
		w.mu.Lock()
		w.life = time.Hour
		w.mu.Unlock()
		time.Sleep(2 * againAfter)
		if info = show(t, c); info.State != Running || info.Moved != 2 {
			t.Errorf("%s in epoch %d: %s; %+v", info.State, info.Epoch, info.Why, info.Moves)
		}
	})
}

// A node that falls silent without a word is asked anew; while it answers nothing is wrong.
func TestSilence(t *testing.T) {
	inTown(t, time.Hour, nil, func(ctx context.Context, w *town, c *Creator) {
		w.nodes[dom+"base/b"].tell(host.Report{Kind: host.Heartbeat})
		time.Sleep(silence + time.Second)
		if attached := w.entries("attach"); len(attached) != 1 || show(t, c).State != Running {
			t.Errorf("attached to %v", attached)
		}
	})
}

// A path moves when another plan is better by more than moving costs, for a while; not for less, and not at once.
func TestAPathMoves(t *testing.T) {
	w := newTown()
	inDomain(t, func(c *Config) { c.Open = w.open }, func(ctx context.Context, d *domain, user *ca.Identity) {
		d.proxy("p2", 0.3)
		r := Request{Path: id, Line: line, Capability: d.token(ctx, user, capability.Narrowing{Path: id})}
		info, err := d.creator.Create(ctx, asPeer(user), r)
		if err != nil || info.at(1) != "p1" {
			d.t.Fatalf("%v at %v", err, info.Steps)
		}
		now := func() Info {
			info, err := d.creator.Show(user.ID(), id)
			if err != nil {
				d.t.Fatal(err)
			}
			return info
		}
		d.load("p1", 0.4)
		time.Sleep(2 * time.Minute)
		if i := now(); i.Moved != 0 || i.Outlook == nil || !(i.Outlook.Best < i.Outlook.Now) || !strings.Contains(i.Outlook.Text, "not enough for moving") {
			d.t.Errorf("for a little: %+v, %+v", i.Moves, i.Outlook)
		}
		d.load("p1", 0.95)
		time.Sleep(8 * time.Second)
		if i := now(); i.Moved != 0 {
			d.t.Errorf("at once: %+v, %+v", i.Moves, i.Outlook)
		}
		time.Sleep(time.Minute)
		i := now()
		if i.State != Running || i.Moved != 1 || i.at(1) != "p2" || i.Moves[0].Cause != CauseBetter || !(i.Moves[0].After < i.Moves[0].Before) {
			d.t.Fatalf("after a while: %s: %v, %+v", i.State, i.Steps, i.Moves)
		}
		// The load that it brings is not a reason to move back.
		d.load("p1", 0.3)
		d.load("p2", 0.3+0.2/4)
		time.Sleep(2 * time.Minute)
		if i := now(); i.Moved != 1 {
			d.t.Errorf("and back: %+v", i.Moves)
		}
		// A proxy that is withdrawn is left.
		d.server.Withdraw(d.id(ca.KindProxy, "p2").ID(), "p2", d.version)
		time.Sleep(2 * time.Minute)
		if i := now(); i.State != Running || i.at(1) != "p1" || i.Moves[1].Before != -1 {
			d.t.Errorf("withdrawn: %s: %v, %+v", i.State, i.Steps, i.Moves)
		}
	})
}

// load has a proxy tell another load.
func (d *domain) load(proxy string, load float64) {
	owner := d.id(ca.KindProxy, proxy)
	d.publish(owner, operators.Description{Kind: operators.KindProxy, Name: proxy, Node: at(proxy)}, map[string]float64{"load": load}, capability.Everyone)
}

// The pure part: who is blamed for what was heard.
func TestDiagnose(t *testing.T) {
	n := func(name string) *node { return &node{id: ca.ID(name), control: name + ":1"} }
	hop := func(from, about string) report {
		return report{from: n(from), Report: host.Report{Kind: host.Fault, Stage: "s", Hop: "h", Neighbour: ca.ID(about), Text: "broke"}}
	}
	own := report{from: n("c"), Report: host.Report{Kind: host.Fault, Stage: "3-c", Text: "out of memory"}}
	for _, tc := range []struct {
		name     string
		signs    []report
		cut      map[ca.ID]bool
		blamed   []ca.ID
		accusers []ca.ID
		why      string
	}{
		{"its own words", []report{hop("a", "b"), own}, nil, []ca.ID{"c"}, nil, "3-c at c: out of memory"},
		{"two witnesses and a cut line", []report{hop("a", "b"), hop("c", "b")}, map[ca.ID]bool{"b": true}, []ca.ID{"b"}, nil, "b is gone: s at a: broke"},
		{"a living node accused", []report{hop("a", "b")}, map[ca.ID]bool{"d": true}, nil, []ca.ID{"a"}, "s at a: broke"},
		{"a liar beside a fault", []report{hop("a", "d"), hop("c", "b")}, map[ca.ID]bool{"b": true}, []ca.ID{"b"}, nil, "b is gone"},
		{"given up", []report{{from: n("b"), lost: errors.New("no answer")}}, nil, []ca.ID{"b"}, nil, "control of b at b:1 is lost: no answer"},
	} {
		v := diagnose(tc.signs, tc.cut)
		if !slices.Equal(v.blamed, tc.blamed) || !slices.Equal(v.accusers, tc.accusers) || !strings.HasPrefix(v.why, tc.why) {
			t.Errorf("%s: %+v", tc.name, v)
		}
	}
}
