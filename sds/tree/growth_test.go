package tree

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ninja/ca"
	"ninja/sds/announce"
	"ninja/sds/route"
)

// nursery starts servers in this process.
type nursery struct {
	wood    *wood
	mu      sync.Mutex
	planted []*planted
}

// planted is a server that was spawned; it ends by Stop, or by a crash.
type planted struct {
	*plant
	ended chan struct{}
	once  sync.Once
}

func (p *planted) Address() string        { return p.address }
func (p *planted) Ended() <-chan struct{} { return p.ended }
func (p *planted) Stop()                  { p.once.Do(func() { p.stop(); close(p.ended) }) }

func (n *nursery) Spawn(_ context.Context, s Seed) (Spawned, error) {
	id, err := n.wood.ca.NewIdentity(ca.KindSDS, s.Name)
	if err != nil {
		return nil, err
	}
	p := &planted{plant: &plant{wood: n.wood, id: id, address: "127.0.0.1:0"}, ended: make(chan struct{})}
	p.start(func(c *Config) {
		c.Parents, c.Spawned = []Parent{{Hierarchy: s.Hierarchy, Addresses: []string{s.Address}}}, s.Parent
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.planted = append(n.planted, p)
	return p, nil
}

func (n *nursery) last() *planted {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.planted) == 0 {
		return nil
	}
	return n.planted[len(n.planted)-1]
}

// TestALoadedServerSpawnsAChild (ninja-architecture 6.2, mission S9): past its limit a server starts a child and hands
// over a part; nobody who asks meanwhile misses anything or gets an error; the child is started again when it crashes, and
// taken back when the load falls.
func TestALoadedServerSpawnsAChild(t *testing.T) {
	w := newWood(t)
	owners := []*ca.Identity{w.identity(ca.KindBase, "b"), w.identity(ca.KindUnit, "u")}
	root := w.grow("root")
	nursery := &nursery{wood: w}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	const each = 30
	put := func(p *plant, owner *ca.Identity, i int) {
		name := fmt.Sprint("s", i)
		w.acls.set(string(owner.ID())+"#"+name, everyone)
		if err := p.server.Put(announce.Sign(owner, name, 1, []byte(printer("printer", i)))); err != nil {
			t.Error(err)
		}
	}
	for _, o := range owners {
		for i := range each {
			put(root, o, i)
		}
	}
	c := root.client(w.identity(ca.KindUser, "ann"))
	var asked, wrong atomic.Int64
	var first atomic.Value
	all.Go(func() { // somebody asks all the while
		for ctx.Err() == nil {
			a, err := c.Ask(ctx, kindIs("printer"), Options{Scope: route.Local})
			if ctx.Err() != nil {
				return
			}
			asked.Add(1)
			switch {
			case err != nil:
				wrong.Add(1)
				first.CompareAndSwap(nil, err.Error())
			case len(a.Found) != 2*each:
				wrong.Add(1)
				first.CompareAndSwap(nil, fmt.Sprint(len(a.Found), " found: ", outcomes(a)))
			}
		}
	})
	all.Go(func() { _ = root.node.Grow(ctx, Growth{Spawner: nursery, Services: each + 10}) })
	eventually(t, "a child is spawned and joins", func() bool { p := nursery.last(); return p != nil && len(p.line("local")) == 1 })
	child := nursery.last()
	eventually(t, "it has a part", func() bool { return child.server.Load() == each })
	root.knows2(t, child.id.ID(), each)
	for i := range each { // their owners announce to the child now: what is here is not refreshed any more, and expires
		root.server.Withdraw(owners[0].ID(), fmt.Sprint("s", i), 1)
	}
	if n := root.server.Load(); n != each {
		t.Errorf("%d services stay, want %d: the child was handed the others", n, each)
	}
	n := asked.Load()
	eventually(t, "somebody asks on", func() bool { return asked.Load() > n+20 })
	if wrong.Load() > 0 {
		t.Errorf("%d of %d queries failed or were incomplete during the spawn: first %v", wrong.Load(), asked.Load(), first.Load())
	}
	t.Logf("PROVE a child was spawned under load: %d queries, %d failed or incomplete", asked.Load(), wrong.Load())
	cancel()
	all.Wait()
	if p := nursery.last(); p != nil {
		select {
		case <-p.Ended():
		case <-time.After(5 * time.Second):
			t.Error("the child outlives its parent's supervision")
		}
	}
}

// knows2 waits until a server has heard of so many services behind a child that is named by its identity.
func (p *plant) knows2(t *testing.T, id ca.ID, services int) {
	eventually(t, "the parent knows what the child has", func() bool {
		who, _ := p.node.neighbours("")
		for _, nb := range who {
			if nb.id == id && nb.stream != nil && nb.table.Known() && int(nb.table.Services()) == services {
				return true
			}
		}
		return false
	})
}

// TestACrashedChildIsStartedAgain, and a child is taken back with all that it has when the load has fallen.
func TestACrashedChildIsStartedAgain(t *testing.T) {
	w := newWood(t)
	owners := []*ca.Identity{w.identity(ca.KindBase, "b"), w.identity(ca.KindUnit, "u")}
	root := w.grow("root")
	for i := range 20 {
		root.publish(owners[i%2], fmt.Sprint("s", i), 1, printer("printer", i))
	}
	nursery := &nursery{wood: w}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	all.Go(func() { _ = root.node.Grow(ctx, Growth{Spawner: nursery, Services: 15}) })
	eventually(t, "a child is spawned", func() bool { p := nursery.last(); return p != nil && p.server.Load() == 10 })
	first := nursery.last()
	first.Stop() // as a crash does, for the parent
	eventually(t, "it is started again", func() bool { p := nursery.last(); return p != first && len(p.line("local")) == 1 })
	second := nursery.last()
	second.publish(owners[1], "new", 1, printer("printer", 1)) // its services announce themselves to it
	for i := range 18 {
		root.server.Withdraw(owners[i%2].ID(), fmt.Sprint("s", i), 1)
	}
	eventually(t, "it is taken back", func() bool {
		select {
		case <-second.Ended():
			return true
		default:
			return false
		}
	})
	if n := root.server.Load(); n != 3 {
		t.Errorf("%d services after the child was taken back, want 2 and the child's", n)
	}
}

func TestOnlyTheSpawnerHandsOver(t *testing.T) {
	w := newWood(t)
	root, other := w.grow("root"), w.grow("other")
	child := &plant{wood: w, id: w.identity(ca.KindSDS, "root-1"), address: "127.0.0.1:0"}
	child.start(func(c *Config) { c.Spawned = root.id.ID() })
	t.Cleanup(func() { child.stop() })
	s := &sapling{seed: Seed{Name: "root-1"}, spawned: &planted{plant: child, ended: make(chan struct{})}}
	if err := other.node.receive(context.Background(), s); err == nil {
		t.Error("a server that is not its spawner was given a server's services")
	}
	if err := root.node.receive(context.Background(), s); err != nil {
		t.Error(err)
	}
}

// TestPressure: a peak spawns nobody, a load does; nobody is taken back while all would be too much again.
func TestPressure(t *testing.T) {
	p := pressure{Growth: Growth{Services: 100}}
	for i, c := range []struct {
		services, together int
		grow               bool
	}{{150, 150, false}, {50, 50, false}, {150, 150, false}, {150, 150, false}, {150, 150, true}, {150, 150, false}} {
		if grow, _ := p.step(c.services, 0, c.together); grow != c.grow {
			t.Errorf("step %d: grow %v", i, grow)
		}
	}
	for i := range 2 * underFor {
		if _, shrink := p.step(20, 0, 60); shrink {
			t.Errorf("step %d takes back what would be more than half", i)
		}
	}
	shrunk := 0
	for range underFor {
		if _, shrink := p.step(20, 0, 40); shrink {
			shrunk++
		}
	}
	if shrunk != 1 {
		t.Errorf("taken back %d times in %d quiet periods", shrunk, underFor)
	}
	for _, kinds := range []map[string]int{{"base": 5}, {}} {
		if s := split(kinds); s != nil {
			t.Errorf("%v is split off %v", kinds, s)
		}
	}
	if s := split(map[string]int{"base": 50, "unit": 30, "user": 25, "apc": 1}); len(s) == 0 || len(s) == 4 {
		t.Errorf("split %v", s)
	}
}
