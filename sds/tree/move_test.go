package tree

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/internal/world/relay"
	"ninja/sds/route"
)

// administered lets a server's administrator change its parents.
func administered(w *wood, kept map[string]string) func(*Config) {
	return func(c *Config) {
		c.Administers = func(p ca.Peer) error {
			if p.ID.Name() != "admin" {
				return errors.New("the administrator may")
			}
			return nil
		}
		c.Keep = func(hierarchy string, p *Parent, configured bool) error {
			kept[hierarchy] = fmt.Sprint(p != nil, configured)
			return nil
		}
	}
}

// TestAServerMoves from one parent to another and back to none: whoever asks meanwhile at the server itself misses nothing and is
// told of no branch that is out of reach; a question that was under way by the old parent is answered by it; the server's
// other hierarchies notice nothing; and questions then go where the server stands now.
func TestAServerMoves(t *testing.T) {
	w := newWood(t)
	owner, admin := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "admin")
	a, b, other := w.grow("a"), w.grow("b"), w.grow("other")
	slow := relay.New(relay.Config{})
	t.Cleanup(func() { slow.Close() })
	front, err := slow.Forward("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	far := w.grow("far", "h="+front)
	kept := map[string]string{}
	c := w.grow("c")
	c.stop()
	c.start(func(cfg *Config) {
		administered(w, kept)(cfg)
		cfg.Parents = []Parent{{Hierarchy: "h", Addresses: []string{a.address}}, {Hierarchy: "o", Addresses: []string{other.address}}}
		cfg.Configured = func(h string) *Parent { return &Parent{Hierarchy: h, Addresses: []string{a.address}} }
	})
	t.Cleanup(func() { c.stop() })
	leaf := w.grow("leaf", "h=c")
	for _, p := range []*plant{a, b, c, far, leaf} {
		p.publish(owner, "at-"+p.id.ID().Name(), 1, printer("printer", 1))
	}
	a.knows("far", 1)
	a.knows("c", 2)
	other.knows("c", 1)
	asker, boss := c.client(w.identity(ca.KindUser, "ann")), c.client(admin)
	all := Options{Scope: route.All}
	if x := ask(t, asker, kindIs("printer"), all); names(x) != "at-a@a at-c@c at-far@far at-leaf@leaf" {
		t.Fatalf("before: %s %v", names(x), outcomes(x))
	}
	before := linkOf(t, c, "o")
	// A question is under way when the server moves: far answers after 600 ms only.
	delay := relay.Faults{Link: world.Link{Delay: 300 * time.Millisecond}}
	slow.Set(delay, delay)
	var asking sync.WaitGroup
	asking.Go(func() {
		x, err := asker.Ask(context.Background(), kindIs("printer"), all)
		if err != nil || names(x) != "at-a@a at-c@c at-far@far at-leaf@leaf" || !x.Complete() {
			t.Errorf("what was under way: %v, %v", x, err)
		}
	})
	eventually(t, "the question is under way", func() bool { return !above(c, "h").stream.idle() })
	old := above(c, "h")
	place, err := boss.Join(context.Background(), Parent{Hierarchy: "h", Addresses: []string{"127.0.0.1:1", b.address}})
	if err != nil || place.Parent != b.id.ID() || kept["h"] != "true false" {
		t.Fatalf("%+v, %v; kept %v", place, err, kept)
	}
	if old.stream.idle() || old.stream.ctx.Err() != nil {
		t.Error("the question that was under way is cut off")
	}
	for range 100 {
		if x := ask(t, asker, kindIs("printer"), all); names(x) != "at-b@b at-c@c at-leaf@leaf" || !x.Complete() {
			t.Fatalf("after: %s %v", names(x), outcomes(x))
		}
	}
	asking.Wait()
	eventually(t, "the old link is over", func() bool { return old.stream.ctx.Err() != nil })
	slow.Set(relay.Faults{}, relay.Faults{})
	b.knows("c", 2)
	if x := ask(t, a.client(admin), kindIs("printer"), all); names(x) != "at-a@a at-far@far" || !x.Complete() {
		t.Errorf("at the old parent: %s %v", names(x), outcomes(x))
	}
	if x := ask(t, b.client(admin), kindIs("printer"), all); names(x) != "at-b@b at-c@c at-leaf@leaf" {
		t.Errorf("at the new parent: %s %v", names(x), outcomes(x))
	}
	if linkOf(t, c, "o") != before {
		t.Error("the link of another hierarchy is a new one")
	}
	eventually(t, "the leaf knows its line", func() bool { l := leaf.line("h"); return len(l) == 2 && l[1] == b.id.ID() })
	// To none, and to what the configuration says.
	if place, err = boss.Leave(context.Background(), "h"); err != nil || place.Parent != "" || kept["h"] != "false false" {
		t.Errorf("left: %+v, %v; kept %v", place, err, kept)
	}
	if x := ask(t, asker, kindIs("printer"), all); names(x) != "at-c@c at-leaf@leaf" || !x.Complete() {
		t.Errorf("without a parent: %s %v", names(x), outcomes(x))
	}
	if _, err = boss.Leave(context.Background(), "h"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("left twice: %v", err)
	}
	if place, err = boss.Join(context.Background(), Parent{Hierarchy: "h"}); err != nil || place.Parent != a.id.ID() || kept["h"] != "true true" {
		t.Errorf("as configured: %+v, %v; kept %v", place, err, kept)
	}
	a.knows("c", 2)
}

// TestWhatIsNoParent: a server below this one, one that does not take it in, one that is not there, and nobody's but the
// administrator's word: nothing changes, and the error says why.
func TestWhatIsNoParent(t *testing.T) {
	w := newWood(t)
	top := w.grow("top")
	c := w.grow("c")
	c.stop()
	kept := map[string]string{}
	c.start(func(cfg *Config) {
		administered(w, kept)(cfg)
		cfg.Parents = []Parent{{Hierarchy: "h", Addresses: []string{top.address}}}
	})
	t.Cleanup(func() { c.stop() })
	child := w.grow("child", "h=c")
	grandchild := w.grow("grandchild", "h=child")
	closed := &plant{wood: w, id: w.identity(ca.KindSDS, "closed"), address: "127.0.0.1:0"}
	closed.start(func(cfg *Config) {
		cfg.Accept = func(string, ca.Peer) error { return errors.New("members only") }
	})
	t.Cleanup(func() { closed.stop() })
	eventually(t, "all stand below each other", func() bool { return len(grandchild.line("h")) == 3 })
	link := linkOf(t, c, "h")
	boss := c.client(w.identity(ca.KindUser, "admin"))
	for address, why := range map[string]string{
		child.address: "stands below", grandchild.address: "stands below", closed.address: "members only", "127.0.0.1:1": "refused",
		c.address: "cannot be the parent", "nowhere": "HOST:PORT",
	} {
		_, err := boss.Join(context.Background(), Parent{Hierarchy: "h", Addresses: []string{address}})
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("to %s: %v, want %q", address, err, why)
		}
	}
	if _, err := boss.Join(context.Background(), Parent{Hierarchy: "H", Addresses: []string{top.address}}); err == nil {
		t.Error("a hierarchy with a wrong name is joined")
	}
	if _, err := boss.Join(context.Background(), Parent{Hierarchy: "fresh", Addresses: []string{closed.address}}); err == nil {
		t.Error("a new hierarchy is joined where nobody takes this server in")
	}
	eve := c.client(w.identity(ca.KindUser, "eve"))
	if _, err := eve.Leave(context.Background(), "h"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("anyone may: %v", err)
	}
	// The parent that it has, by another address too: the link stays, and the addresses are kept for later.
	if place, err := boss.Join(context.Background(), Parent{Hierarchy: "h", Addresses: []string{"localhost" + top.address[len("127.0.0.1"):]}}); err != nil || place.Parent != top.id.ID() {
		t.Errorf("the same: %+v, %v", place, err)
	}
	if linkOf(t, c, "h") != link || len(kept) != 1 || kept["h"] != "true false" {
		t.Errorf("something has changed: kept %v", kept)
	}
	s, err := boss.Standing(context.Background())
	if err != nil || len(s.Plans) != 1 {
		t.Errorf("stands in %v, %v", s.Plans, err)
	}
	top.stop()
	top.start(func(*Config) {})
	t.Cleanup(func() { top.stop() })
	eventually(t, "it joins again by the addresses that were named", func() bool { nb := above(c, "h"); return nb != nil && strings.HasPrefix(nb.address, "localhost") })
}

// TestAWatchMovesAlong: a question that stands at a server that moves stands with the new parent; what is behind both parents
// is not told to have gone, what is behind the old one alone is, and the old link is over soon.
func TestAWatchMovesAlong(t *testing.T) {
	w := newWood(t)
	owner, admin := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "admin")
	root := w.grow("root")
	a, b := w.grow("a", "h=root"), w.grow("b")
	c := w.grow("c")
	c.stop()
	c.start(func(cfg *Config) {
		administered(w, map[string]string{})(cfg)
		cfg.Parents = []Parent{{Hierarchy: "h", Addresses: []string{a.address}}}
	})
	t.Cleanup(func() { c.stop() })
	for _, p := range []*plant{root, a, b, c} {
		p.publish(owner, "at-"+p.id.ID().Name(), 1, printer("printer", 1))
	}
	root.knows("a", 2)
	asker, boss := c.client(w.identity(ca.KindUser, "ann")), c.client(admin)
	f := follow(t, asker, kindIs("printer"))
	eventually(t, "what is there is told", func() bool { return f.settled() && f.has() == "at-a.1 at-c.1 at-root.1" })
	old := above(c, "h").stream
	to := func(p *plant, want string) {
		t.Helper()
		if _, err := boss.Join(context.Background(), Parent{Hierarchy: "h", Addresses: []string{p.address}}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "what is there now is told: "+want, func() bool { return f.has() == want })
	}
	to(root, "at-a.1 at-c.1 at-root.1")
	eventually(t, "the old link is over", func() bool { return old.ctx.Err() != nil })
	if f.left() != "" {
		t.Errorf("told to have gone: %s", f.left())
	}
	to(b, "at-b.1 at-c.1")
	if _, err := boss.Leave(context.Background(), "h"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what is elsewhere has gone", func() bool { return f.has() == "at-c.1" })
	if f.left() != "at-a at-b at-root" {
		t.Errorf("told to have gone: %s", f.left())
	}
}

// TestServersMoveAtOnce: many moves of two servers, also below each other, at the same time: none is its own ancestor in the
// end, and all is found.
func TestServersMoveAtOnce(t *testing.T) {
	w := newWood(t)
	root := w.grow("root")
	var movers []*plant
	for _, name := range []string{"x", "y"} {
		p := w.grow(name)
		p.stop()
		p.start(func(cfg *Config) {
			administered(w, map[string]string{})(cfg)
			cfg.Parents = []Parent{{Hierarchy: "h", Addresses: []string{root.address}}}
		})
		t.Cleanup(func() { p.stop() })
		p.publish(w.identity(ca.KindBase, "b-"+name), "at-"+name, 1, printer("printer", 1))
		movers = append(movers, p)
	}
	var moving sync.WaitGroup
	admin := w.identity(ca.KindUser, "admin")
	for i, p := range movers {
		boss := p.client(admin)
		moving.Go(func() {
			for n := range 20 {
				to := []*plant{movers[1-i], root}[n%2]
				_, err := boss.Join(context.Background(), Parent{Hierarchy: "h", Addresses: []string{to.address}})
				if err != nil && !strings.Contains(err.Error(), "stands below") {
					t.Error(err)
				}
			}
		})
	}
	moving.Wait()
	c := root.client(admin)
	eventually(t, "all is found", func() bool {
		x := ask(t, c, kindIs("printer"), Options{Scope: route.All})
		return names(x) == "at-x@x at-y@y" && x.Complete()
	})
}

// above is a server's parent in a hierarchy.
func above(p *plant, hierarchy string) *neighbour {
	h, err := p.node.hierarchy(hierarchy)
	if err != nil {
		p.wood.t.Fatal(err)
	}
	return h.above()
}

// linkOf is the link to the parent, once it is up.
func linkOf(t *testing.T, p *plant, hierarchy string) *stream {
	t.Helper()
	eventually(t, "the link is up", func() bool { return above(p, hierarchy) != nil })
	return above(p, hierarchy).stream
}
