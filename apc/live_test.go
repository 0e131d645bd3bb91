package apc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/capability"
	"ninja/capability/capabilitypb"
	"ninja/operators"
	"ninja/operators/host"
	"ninja/sds"
	"ninja/sds/announce"
)

// inDomain runs a test in a domain with a telephone, an oracle and a proxy that everyone may find.
func inDomain(t *testing.T, change func(*Config), f func(ctx context.Context, d *domain, ann *ca.Identity)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		d := newDomain(ctx, t, change)
		d.t = t
		d.furnish()
		f(ctx, d, d.id(ca.KindUser, "ann"))
	})
}

func at(name string) *operators.Node {
	return &operators.Node{Control: name + ":1", Data: name + ":2", Cores: 4}
}

func (d *domain) furnish() {
	d.publish(d.id(ca.KindUnit, "lobby"), operators.Description{Kind: "phone", Name: "lobby", Node: at("lobby"),
		Operators: []operators.Spec{spec("microphone", "", "text/plain;lang=en"), spec("speaker", "text/plain;lang=en", "")}}, nil, capability.Everyone)
	d.publish(d.id(ca.KindBase, "b"), operators.Description{Kind: "oracle", Name: "delphi", Node: at("b"),
		Operators: []operators.Spec{spec("delphi/answer", "text/plain;lang=la", "text/plain;lang=la")}}, nil, capability.Everyone)
	d.proxy("p1", 0)
}

// proxy publishes a proxy that can translate.
func (d *domain) proxy(name string, load float64) {
	owner := d.id(ca.KindProxy, name)
	d.publish(owner, operators.Description{Kind: operators.KindProxy, Name: name, Node: at(name)}, map[string]float64{"load": load}, capability.Everyone)
	for _, s := range []operators.Spec{spec("to-latin", "text/plain;lang=en", "text/plain;lang=la"), spec("to-english", "text/plain;lang=la", "text/plain;lang=en")} {
		d.publish(owner, operators.Description{Kind: operators.KindOperator, Name: "operator." + s.Name, Node: at(name), Operators: []operators.Spec{s}}, nil, capability.Everyone)
	}
}

func (d *domain) plan(ctx context.Context, who *ca.Identity, line string) (Info, error) {
	return d.creator.Plan(ctx, asPeer(who), Request{Line: line, Capability: d.token(ctx, who, capability.Narrowing{})})
}

func (i Info) at(step int) string { return i.Steps[step].Node.Name() }

func (d *domain) counts() (queries, streams int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries, d.streams
}

// Capabilities are narrowed anew for each request; all of equal rights are one watch, and what it tells is in the next plan.
func TestOneWatchForAllOfEqualRights(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		first, err := d.plan(ctx, ann, line)
		if err != nil {
			d.t.Fatal(err)
		}
		queries, _ := d.counts()
		for range 5 {
			if again, err := d.plan(ctx, ann, line); err != nil || again.Steps[1].Node != first.Steps[1].Node {
				d.t.Errorf("%v, %v", again.Steps, err)
			}
		}
		if q, s := d.counts(); q != queries || s != 1 {
			d.t.Errorf("%d queries more and %d watches for five requests within a second", q-queries, s)
		}
		if asked, hits := d.creator.cache.Counts(); asked != 6 || hits != 5 {
			d.t.Errorf("the cache had %d of %d", hits, asked)
		}
		// A second, idle proxy is found without a query, once the first has become busy.
		d.proxy("p2", 0)
		d.server.Refresh(d.id(ca.KindProxy, "p1").ID(), time.Hour, nil)
		synctest.Wait()
		if _, err := d.plan(ctx, ann, line+" domain=test"); err != nil {
			d.t.Error(err)
		}
		d.server.Withdraw(d.id(ca.KindProxy, "p1").ID(), "p1", 100)
		synctest.Wait()
		if moved, err := d.plan(ctx, ann, line); err != nil || moved.at(1) != "p2" {
			d.t.Errorf("p1 is gone, but the plan is %v (%v)", moved.Steps, err)
		}
		// A capability of other rights, here narrowed to a template, sees by a watch of its own.
		token := d.token(ctx, ann, capability.Narrowing{Template: []byte(`<service xmlns="urn:ninja:service:1" kind="phone"/>`)})
		if _, err := d.creator.Plan(ctx, asPeer(ann), Request{Line: line, Capability: token}); !errors.Is(err, ErrRefused) {
			d.t.Errorf("narrowed to telephones: %v", err)
		}
		if _, s := d.counts(); s != 2 {
			d.t.Errorf("%d watches", s)
		}
	})
}

// What is hidden leaves the plans as soon as the watch tells, and what is shown enters them.
func TestHiddenLeaves(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		for n, who := range [][]capability.Who{{capability.Everyone}, nil, {"group:others"}, {capability.Who(ann.ID())}} {
			d.allow(d.id(ca.KindBase, "b"), "delphi", who...)
			_, err := d.plan(ctx, ann, line)
			if visible := n == 0 || n == 3; visible != (err == nil) {
				d.t.Errorf("for %v: %v", who, err)
			}
			if _, s := d.counts(); s != 1 {
				d.t.Errorf("%d watches", s)
			}
		}
	})
}

// A watch that breaks begins anew, and what went meanwhile is gone; until then requests are answered by queries.
func TestABrokenWatch(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		if _, err := d.plan(ctx, ann, line); err != nil {
			d.t.Fatal(err)
		}
		d.cut()
		synctest.Wait()
		d.server.Withdraw(d.id(ca.KindBase, "b").ID(), "delphi", 100)
		synctest.Wait()
		if _, err := d.plan(ctx, ann, line); !errors.Is(err, ErrRefused) {
			d.t.Errorf("by queries: %v", err)
		}
		time.Sleep(5 * time.Second)
		if _, err := d.plan(ctx, ann, line); !errors.Is(err, ErrRefused) {
			d.t.Errorf("by the new watch: %v", err)
		}
		if _, s := d.counts(); s != 2 {
			d.t.Errorf("%d watches", s)
		}
	})
}

// A load is told by the watch: the next plan, within the same second and without a query, is elsewhere.
func TestLoadsAreFollowed(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		p1 := d.version - 2
		d.proxy("p2", 0.3)
		first, err := d.plan(ctx, ann, line)
		if err != nil || first.at(1) != "p1" {
			d.t.Fatal(first.Steps, err)
		}
		queries, _ := d.counts()
		d.server.Refresh(d.id(ca.KindProxy, "p1").ID(), time.Hour, []announce.Pair{{Name: "p1", Version: p1, Numbers: map[string]float64{"load": 0.9}}})
		synctest.Wait()
		if info, err := d.plan(ctx, ann, line); err != nil || info.at(1) != "p2" {
			d.t.Errorf("%v, %v", info.Steps, err)
		}
		if q, _ := d.counts(); q != queries {
			d.t.Errorf("%d queries", q-queries)
		}
	})
}

// A watch that is cut off without a word is found out: requests are answered by queries, and after some another begins.
func TestASilentWatch(t *testing.T) {
	silent := true
	var follow Follower
	change := func(c *Config) {
		follow = c.Follow
		c.Follow = func(ctx context.Context, token func(context.Context) ([]byte, error), q sds.Query, f func(sds.WatchEvent)) error {
			inStep := false
			return follow(ctx, token, q, func(e sds.WatchEvent) {
				if silent && inStep {
					return
				}
				f(e)
				inStep = inStep || e.Kind == sds.Synced
			})
		}
	}
	inDomain(t, change, func(ctx context.Context, d *domain, ann *ca.Identity) {
		if _, err := d.plan(ctx, ann, line); err != nil {
			d.t.Fatal(err)
		}
		d.server.Withdraw(d.id(ca.KindProxy, "p1").ID(), "p1", 100)
		d.proxy("p2", 0)
		for n := range 2 * maxBehind {
			time.Sleep(freshFor)
			info, err := d.plan(ctx, ann, line)
			if err != nil || info.at(1) != "p2" {
				d.t.Errorf("plan %d: %v, %v", n, info.Steps, err)
			}
		}
		if _, s := d.counts(); s < 2 {
			d.t.Errorf("%d watches", s)
		}
	})
}

// Views are bounded, and end when nobody asks.
func TestViewsAreBounded(t *testing.T) {
	inDomain(t, func(c *Config) { c.MaxViews, c.Idle = 2, time.Minute }, func(ctx context.Context, d *domain, _ *ca.Identity) {
		views := func() int {
			d.creator.mu.Lock()
			defer d.creator.mu.Unlock()
			return len(d.creator.views)
		}
		for n := range 4 { // the third and the fourth are answered by queries
			if _, err := d.plan(ctx, d.id(ca.KindUser, fmt.Sprint("u", n)), line); err != nil {
				d.t.Fatal(err)
			}
		}
		if _, s := d.counts(); s != 2 || views() != 2 {
			d.t.Errorf("%d views, %d watches begun", views(), s)
		}
		time.Sleep(leastUse)
		if _, err := d.plan(ctx, d.id(ca.KindUser, "u3"), line); err != nil {
			d.t.Fatal(err)
		}
		if _, s := d.counts(); s != 3 || views() != 2 {
			d.t.Errorf("%d views, %d watches begun", views(), s)
		}
		time.Sleep(2 * time.Minute)
		if views() != 0 {
			d.t.Errorf("%d views that nobody asks for", views())
		}
	})
}

// inStep reports whether all views are.
func (d *domain) inStep() bool {
	d.creator.mu.Lock()
	defer d.creator.mu.Unlock()
	for _, l := range d.creator.views {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.inStep {
			return false
		}
	}
	return true
}

// A capability that was revoked or has lapsed does not keep a view: it needs one that holds.
func TestALapsedCapability(t *testing.T) {
	inDomain(t, func(c *Config) { c.Idle = 10 * time.Hour }, func(ctx context.Context, d *domain, ann *ca.Identity) {
		short := d.token(ctx, ann, capability.Narrowing{Expires: time.Now().Add(10 * time.Minute)})
		if _, err := d.creator.Plan(ctx, asPeer(ann), Request{Line: line, Capability: short}); err != nil {
			d.t.Fatal(err)
		}
		time.Sleep(15 * time.Minute)
		if d.inStep() {
			d.t.Error("the view is in step without a capability")
		}
		if _, err := d.plan(ctx, ann, line); err != nil {
			d.t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if !d.inStep() {
			d.t.Error("the view is not in step again")
		}
	})
}

// A group's member does not see by the view of one who is none.
func TestGroups(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		bob := d.id(ca.KindUser, "bob")
		_, err := d.manager.SetGroup(callFrom(ctx, d.id(ca.KindUser, "admin")), &capabilitypb.SetGroupRequest{Version: 1, Name: "staff", Members: []string{string(bob.ID())}})
		if err != nil {
			d.t.Fatal(err)
		}
		d.allow(d.id(ca.KindBase, "b"), "delphi", "group:staff")
		if _, err := d.plan(ctx, ann, line); !errors.Is(err, ErrRefused) {
			d.t.Errorf("ann: %v", err)
		}
		if _, err := d.plan(ctx, bob, line); err != nil {
			d.t.Errorf("bob: %v", err)
		}
		if _, err := d.plan(ctx, ann, line); !errors.Is(err, ErrRefused) {
			d.t.Errorf("ann after bob: %v", err)
		}
	})
}

// Explain says why; the nearest request that it names succeeds.
func TestExplain(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		d.proxy("p2", 0.5)
		r := Request{Line: line, Capability: d.token(ctx, ann, capability.Narrowing{})}
		e, err := d.creator.Explain(ctx, asPeer(ann), r)
		if err != nil || e.Found == nil || !e.Found.Proven || len(e.Found.Rivals) == 0 || e.Found.Plan.Bound > e.Found.Plan.Cost {
			d.t.Fatalf("%+v, %v", e, err)
		}
		if back := explanationFromWire(explanationToWire(e)); render(d.t, back) != render(d.t, e) {
			d.t.Errorf("over the wire\n%s\nbecame\n%s", render(d.t, e), render(d.t, back))
		}
		r.Line += " latency<2ms"
		e, err = d.creator.Explain(ctx, asPeer(ann), r)
		if err != nil || e.Refusal == nil || e.Refusal.Reason != plan.NoBounds || len(e.Refusal.Short) != 1 {
			d.t.Fatalf("%+v, %v", e, err)
		}
		if back := explanationFromWire(explanationToWire(e)); render(d.t, back) != render(d.t, e) {
			d.t.Errorf("over the wire\n%s\nbecame\n%s", render(d.t, e), render(d.t, back))
		}
		if info, err := d.plan(ctx, ann, e.Refusal.Nearest); err != nil || info.State != Planned {
			d.t.Errorf("the nearest request is %q: %v", e.Refusal.Nearest, err)
		}
		d.publish(d.id(ca.KindBase, "b"), operators.Description{Kind: "parrot", Name: "polly", Node: at("b"),
			Operators: []operators.Spec{spec("polly/repeat", "text/plain;lang=gr", "text/plain;lang=gr")}}, nil, capability.Everyone)
		r.Line = "phone:lobby ! ?parrot & ?oracle ! phone:lobby"
		e, err = d.creator.Explain(ctx, asPeer(ann), r)
		if err != nil || e.Refusal == nil || e.Refusal.Reason != plan.NoTypes || e.Refusal.Nearest != "phone:lobby ! ?oracle ! phone:lobby" {
			d.t.Fatalf("%+v, %v", e.Refusal, err)
		}
		if back := explanationFromWire(explanationToWire(e)); render(d.t, back) != render(d.t, e) {
			d.t.Errorf("over the wire\n%s\nbecame\n%s", render(d.t, e), render(d.t, back))
		}
	})
}

func render(t testing.TB, e Explanation) (all string) {
	t.Helper()
	for _, form := range []string{Text, JSON, DOT, Mermaid} {
		text, err := e.Render(form)
		if err != nil {
			t.Fatal(err)
		}
		all += text
	}
	return all
}

// What several paths report of an operator at a node makes plans go elsewhere; one report does not.
func TestCostsAreLearned(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		d.proxy("p2", 0)
		first, err := d.plan(ctx, ann, line)
		if err != nil {
			d.t.Fatal(err)
		}
		s := first.Steps[1]
		report := func(times int) {
			for range times {
				d.creator.learned.report(s.name, s.Node, slow(s.Stage), s.described)
			}
		}
		report(1)
		if info, err := d.plan(ctx, ann, line); err != nil || info.Steps[1].Node != s.Node {
			d.t.Errorf("after one report: %v, %v", info.Steps, err)
		}
		report(5)
		if info, err := d.plan(ctx, ann, line); err != nil || info.Steps[1].Node == s.Node {
			d.t.Errorf("after six reports: %v, %v", info.Steps, err)
		}
		c, err := d.creator.Catalogue(ctx, asPeer(ann), d.token(ctx, ann, capability.Narrowing{}))
		if err != nil {
			d.t.Fatal(err)
		}
		if len(c.Learned) != 1 || c.Learned[0].Operator != s.name || c.Learned[0].P50 != time.Second || c.Learned[0].P99 != 2*time.Second || c.Learned[0].Reports != 6 {
			d.t.Errorf("the catalogue tells %+v", c.Learned)
		}
		i := slices.IndexFunc(c.Operators, func(o plan.Operator) bool { return o.Name == s.name })
		for _, p := range c.Operators[i].Places {
			if learned := p.Cost != nil; learned != (p.Node == s.Node) {
				d.t.Errorf("%s: %v", p.Node, p.Cost)
			}
		}
	})
}

// slow is a stage that takes a second for what others do in a millisecond.
func slow(id string) host.StageStats {
	return host.StageStats{ID: id, Process: time.Second, ProcessP99: 2 * time.Second, CPU: 0.5}
}

// A required step may be whatever a template matches, with the asker's rights.
func TestTemplates(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		for range 2 { // by the watch, and by queries
			for _, tc := range []struct {
				template, text string
				is             error
			}{
				{`<service xmlns="urn:ninja:service:1"><operator name="delphi/answer"/></service>`, "", nil},
				{`<service xmlns="urn:ninja:service:1"><operator name="dodona/answer"/></service>`, "no service that you may find is a @1", ErrRefused},
				{`<service`, "template 1", ErrBadRequest},
				{``, "template 1", ErrBadRequest},
			} {
				r := Request{Line: "phone:lobby ! ?@1 ! phone:lobby", Templates: [][]byte{[]byte(tc.template)}, Capability: d.token(ctx, ann, capability.Narrowing{})}
				info, err := d.creator.Plan(ctx, asPeer(ann), r)
				if !errors.Is(err, tc.is) || err != nil && !strings.Contains(err.Error(), tc.text) || err == nil && info.Steps[2].Operator != "delphi/answer" {
					d.t.Errorf("%s: %v, %v", tc.template, info.Steps, err)
				}
			}
			d.creator.cfg.Follow = nil
		}
	})
}

// A catalogue that is written, read and planned with explains as the creator does.
func TestACatalogueInAFile(t *testing.T) {
	inDomain(t, nil, func(ctx context.Context, d *domain, ann *ca.Identity) {
		d.proxy("p2", 0.5)
		token := d.token(ctx, ann, capability.Narrowing{})
		c, err := d.creator.Catalogue(ctx, asPeer(ann), token)
		if err != nil {
			d.t.Fatal(err)
		}
		var b bytes.Buffer
		if err := c.Write(&b); err != nil {
			d.t.Fatal(err)
		}
		written := b.String()
		read, err := ReadCatalogue(&b)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, l := range []string{line, line + " latency<2ms", "phone:attic ! phone:lobby", "phone:lobby ! operator:operator.to-latin ! ?oracle ! phone:lobby"} {
			live, err := d.creator.Explain(ctx, asPeer(ann), Request{Line: l, Capability: token})
			dry, err2 := read.Explain(ctx, l)
			if err != nil || err2 != nil || render(d.t, live) != render(d.t, dry) {
				d.t.Errorf("%s: live\n%s%v\nfrom the file\n%s%v", l, render(d.t, live), err, render(d.t, dry), err2)
			}
		}
		if _, err := read.Explain(ctx, "phone:lobby"); !errors.Is(err, ErrBadRequest) {
			d.t.Error(err)
		}
		for text, want := range map[string]string{
			`{"version": 2}`: "reads version 1", `{"version": 1, "Colour": 3}`: "unknown field", written + "x": "more follows", written[:100]: "at byte",
		} {
			if _, err := ReadCatalogue(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
				d.t.Errorf("%.30s: %v, want %q", text, err, want)
			}
		}
	})
}
