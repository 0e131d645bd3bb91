package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/route"
	"ninja/sds/tree/treepb"
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

// household is a server that has spawned a child, two owners of different kinds, and somebody who asks at the server.
type household struct {
	*wood
	root    *plant
	nursery *nursery
	owners  []*ca.Identity
	cancel  func()
	all     sync.WaitGroup
	asked   atomic.Int64
	wrong   atomic.Int64
	first   atomic.Value
}

const (
	eachOwner = 30
	settle    = 2 * time.Second
)

// growFamily puts services of the owners in and has the server grow past limit.
func growFamily(t *testing.T, limit int, kinds ...string) (f *household, ctx context.Context) {
	w := newWood(t)
	f = &household{wood: w, root: w.grow("root"), nursery: &nursery{wood: w}}
	for i, k := range kinds {
		f.owners = append(f.owners, w.identity(k, fmt.Sprint("o", i)))
	}
	for _, o := range f.owners {
		for i := range eachOwner {
			f.root.publish(o, fmt.Sprint("s", i), 1, printer("printer", i))
		}
	}
	ctx, f.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() { f.cancel(); f.all.Wait() })
	f.all.Go(func() { _ = f.root.node.Grow(ctx, Growth{Spawner: f.nursery, Services: limit, Settle: settle}) })
	return f, ctx
}

// want notes an answer that is not what it should be.
func (f *household) want(what string, ok bool, got any, err error) {
	f.asked.Add(1)
	if err != nil || !ok {
		f.wrong.Add(1)
		f.first.CompareAndSwap(nil, fmt.Sprintf("%s: %v, %v", what, got, err))
	}
}

// asking asks at a server in every plain way, and with a scope, until ctx ends.
func (f *household) asking(ctx context.Context, c *Client, total int) {
	q := kindIs("printer")
	for ctx.Err() == nil {
		n, err := c.Count(ctx, q)
		if ctx.Err() != nil {
			return
		}
		f.want("count", n == total, n, err)
		found, err := c.Query(ctx, q)
		if ctx.Err() != nil {
			return
		}
		f.want("query", len(found) == total && slices.IsSortedFunc(found, func(a, b sds.Found) int { return cmp.Compare(a.ID, b.ID) }), len(found), err)
		ids := make(map[string]bool)
		for after := []byte(nil); ; {
			page, err := c.Page(ctx, sds.Query{Template: q.Template, Limit: 7, After: after})
			if ctx.Err() != nil {
				return
			}
			for _, x := range page.Found {
				ids[x.ID] = true
			}
			if after = page.Cursor; err != nil || !page.More {
				f.want("pages", len(ids) == total, len(ids), err)
				break
			}
		}
		a, err := c.Ask(ctx, q, Options{Scope: route.Local})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f.want("tree", false, nil, err)
		} else {
			f.want("tree", len(a.Found) == total && a.Complete(), fmt.Sprint(len(a.Found), outcomes(a)), nil)
		}
	}
}

// grown waits for a child that answers as its parent does.
func (f *household) grown(t *testing.T, total int) *planted {
	t.Helper()
	eventually(t, "a child is spawned and has all", func() bool { p := f.nursery.last(); return p != nil && p.server.Load() == total })
	return f.nursery.last()
}

// TestALoadedServerSpawnsAChild (ninja-architecture 6.2, mission S9): past its limit a server starts a child and hands
// over a part; nobody who asks meanwhile, plainly or with a scope, misses anything or gets an error, not while the child
// is killed and started again, and not when it is taken back. The child answers for the family too.
func TestALoadedServerSpawnsAChild(t *testing.T) {
	const total = 2 * eachOwner
	f, ctx := growFamily(t, eachOwner+10, ca.KindBase, ca.KindUnit)
	root, ann := f.root, f.identity(ca.KindUser, "ann")
	c := root.client(ann)
	f.all.Go(func() { f.asking(ctx, c, total) })
	var left atomic.Int64
	watched := make(chan struct{})
	f.all.Go(func() {
		_ = c.Watch(ctx, kindIs("printer"), func(e sds.WatchEvent) {
			switch e.Kind {
			case sds.Leave:
				left.Add(1)
			case sds.Enter:
				if e.Found.Name == "late" {
					close(watched)
				}
			}
		})
	})
	child := f.grown(t, total)
	eventually(t, "the load is shared", func() bool {
		announced := root.server.Announced()
		return announced[""] == eachOwner && announced[child.id.ID()] == eachOwner
	})
	if got := child.client(ann); true {
		if n, err := got.Count(ctx, kindIs("printer")); n != total || err != nil {
			t.Errorf("the child counts %d, %v", n, err)
		}
	}
	child.Stop() // as a crash does, for the parent
	eventually(t, "it is started again and has all", func() bool { p := f.nursery.last(); return p != child && p.server.Load() == total })
	child = f.nursery.last()
	n := f.asked.Load()
	eventually(t, "somebody asks on", func() bool { return f.asked.Load() > n+20 })
	if f.wrong.Load() > 0 || left.Load() > 0 {
		t.Errorf("%d of %d answers failed or were incomplete: first %v; a watch was told of %d that left", f.wrong.Load(), f.asked.Load(), f.first.Load(), left.Load())
	}
	t.Logf("PROVE a child was spawned under load and crashed: %d queries, %d failed or incomplete", f.asked.Load(), f.wrong.Load())
	f.hidden(t, child)
	f.acls.set(string(f.owners[0].ID())+"#late", everyone)
	if err := child.server.Put(announce.Sign(f.owners[0], "late", 1, []byte(printer("printer", 1)))); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watched:
	case <-time.After(10 * time.Second):
		t.Error("what is announced to the child is not told to who watches at the parent")
	}
	f.cancel()
	f.all.Wait()
	select {
	case <-child.Ended():
	case <-time.After(5 * time.Second):
		t.Error("the child outlives its parent's supervision")
	}
}

// hidden: a service that few may find, announced to the child, is found at the parent by them alone, and ends there when
// its owner ends it.
func (f *household) hidden(t *testing.T, child *planted) {
	bob, eve := f.identity(ca.KindUser, "bob"), f.identity(ca.KindUser, "eve")
	q := kindIs("safe")
	child.publish(f.owners[0], "secret", 1, printer("safe", 1), capability.Who(bob.ID()))
	count := func(id *ca.Identity) int {
		n, err := f.root.client(id, capability.Who(id.ID())).Count(context.Background(), q)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	eventually(t, "who may finds it at the parent", func() bool { return count(bob) == 1 })
	if n := count(eve); n != 0 {
		t.Errorf("who may not finds %d", n)
	}
	child.server.Withdraw(f.owners[0].ID(), "secret", 1)
	eventually(t, "it ends at the parent too", func() bool { return count(bob) == 0 })
}

// TestAChildIsTakenBack with all that it has when the load has fallen, and nothing is missing meanwhile.
func TestAChildIsTakenBack(t *testing.T) {
	f, ctx := growFamily(t, eachOwner+10, ca.KindBase, ca.KindUnit)
	child := f.grown(t, 2*eachOwner)
	child.publish(f.owners[1], "new", 1, printer("scanner", 1)) // its services announce themselves to it
	for i := range eachOwner - 2 {
		for _, o := range f.owners {
			child.server.Withdraw(o.ID(), fmt.Sprint("s", i), 1)
			f.root.server.Withdraw(o.ID(), fmt.Sprint("s", i), 1)
		}
	}
	eventually(t, "both have what is left", func() bool { return f.root.server.Load() == 5 && child.server.Load() == 5 })
	c := f.root.client(f.identity(ca.KindUser, "ann"))
	asking, enough := context.WithCancel(ctx)
	f.all.Go(func() { f.asking(asking, c, 4) })
	eventually(t, "it is taken back", func() bool {
		select {
		case <-child.Ended():
			return true
		default:
			return false
		}
	})
	time.Sleep(testPeriod)
	enough()
	if f.wrong.Load() > 0 || f.asked.Load() == 0 {
		t.Errorf("%d of %d answers failed or were incomplete: first %v", f.wrong.Load(), f.asked.Load(), f.first.Load())
	}
	if n := f.root.server.Load(); n != 5 {
		t.Errorf("%d services after the child was taken back, want 4 and the child's", n)
	}
}

// TestALoadOfOneKind is shared too: by ranges of owners, again and again, until no server has too many. Nobody who asks
// misses anything or gets an error while servers are spawned, one of them crashes and is started again, and all are taken back
// when the load has fallen.
func TestALoadOfOneKind(t *testing.T) {
	const owners, limit = 6, 2*eachOwner + 10
	f, ctx := growFamily(t, limit, slices.Repeat([]string{ca.KindUnit}, owners)...)
	c := f.root.client(f.identity(ca.KindUser, "ann"))
	asking, enough := context.WithCancel(ctx)
	f.all.Go(func() { f.asking(asking, c, owners*eachOwner) })
	shared := func() bool {
		announced := f.root.server.Announced()
		most := 0
		for _, n := range announced {
			most = max(most, n)
		}
		return len(announced) > 2 && most <= limit
	}
	eventually(t, "the load is shared", shared)
	f.nursery.mu.Lock()
	victim, others := f.nursery.planted[0], slices.Clone(f.nursery.planted[1:])
	f.nursery.mu.Unlock()
	for _, p := range append(others, victim) {
		p := p
		eventually(t, "a child has all", func() bool { return p.server.Load() == owners*eachOwner })
	}
	spawned := len(others) + 1
	victim.Stop() // as a crash does, for the parent
	eventually(t, "it is started again and has all", func() bool {
		p := f.nursery.last()
		return p.id.ID() == victim.id.ID() && p != victim && p.server.Load() == owners*eachOwner
	})
	n := f.asked.Load()
	eventually(t, "somebody asks on", func() bool { return f.asked.Load() > n+20 })
	enough()
	f.nursery.mu.Lock()
	all := slices.Clone(f.nursery.planted)
	f.nursery.mu.Unlock()
	for i := range eachOwner - 2 {
		for _, o := range f.owners {
			for _, s := range append([]*sds.Server{f.root.server}, all[1].server, all[len(all)-1].server) {
				s.Withdraw(o.ID(), fmt.Sprint("s", i), 1)
			}
		}
	}
	eventually(t, "all have what is left", func() bool {
		return f.root.server.Load() == 2*owners && all[1].server.Load() == 2*owners && all[len(all)-1].server.Load() == 2*owners
	})
	f.all.Go(func() { f.asking(ctx, c, 2*owners) })
	eventually(t, "all are taken back", func() bool {
		ended := 0
		for _, p := range all {
			select {
			case <-p.ended:
				ended++
			default:
			}
		}
		return ended == len(all) && f.root.server.Load() == 2*owners
	})
	n = f.asked.Load()
	eventually(t, "somebody asks on", func() bool { return f.asked.Load() > n+20 })
	if f.wrong.Load() > 0 {
		t.Errorf("%d of %d answers failed or were incomplete: first %v", f.wrong.Load(), f.asked.Load(), f.first.Load())
	}
	t.Logf("PROVE a load of one kind was shared by %d children, one crashed, all were taken back: %d queries, %d failed or incomplete", spawned, f.asked.Load(), f.wrong.Load())
}

func TestOnlyTheSpawnerHandsOver(t *testing.T) {
	w := newWood(t)
	root, other := w.grow("root"), w.grow("other")
	child := &plant{wood: w, id: w.identity(ca.KindSDS, "root-1"), address: "127.0.0.1:0"}
	child.start(func(c *Config) { c.Spawned = root.id.ID() })
	t.Cleanup(func() { child.stop() })
	owner := w.identity(ca.KindUnit, "u")
	s := &sapling{seed: Seed{Name: "root-1"}, id: child.id.ID(), spawned: &planted{plant: child, ended: make(chan struct{})}, copied: make(chan struct{})}
	everyone := func(ca.ID) bool { return true }
	for _, p := range []*plant{other, root} {
		p.publish(owner, "s", 1, printer("printer", 1))
		err := p.node.handOver(context.Background(), s, everyone)
		if took := child.server.Load() > 0; took != (p == root) || took != (err == nil) {
			t.Errorf("%s hands over: %v; %d services", p.id.ID(), err, child.server.Load())
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := other.node.copying(ctx, s, s.spawned, s.id); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a server that is not its spawner is told what a server hears: %v", err)
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
}

// TestAFamilyCountsOnce: a child that stands in a hierarchy in which its parent has a parent is not counted a second time
// there, and what ends there ends above.
func TestAFamilyCountsOnce(t *testing.T) {
	w := newWood(t)
	top, root := w.grow("top"), w.grow("root", "world=top")
	owners := []*ca.Identity{w.identity(ca.KindUnit, "a"), w.identity(ca.KindUnit, "b"), w.identity(ca.KindUnit, "c")}
	for _, o := range owners {
		for i := range 5 {
			root.publish(o, fmt.Sprint("s", i), 1, printer("printer", i))
		}
	}
	top.knows("root", 15)
	n := &nursery{wood: w}
	ctx, cancel := context.WithCancel(context.Background())
	var growing sync.WaitGroup
	growing.Go(func() {
		_ = root.node.Grow(ctx, Growth{Spawner: n, Hierarchy: "world", Services: 12, Settle: settle})
	})
	t.Cleanup(func() { cancel(); growing.Wait() })
	eventually(t, "a child has all and has said so", func() bool {
		p := n.last()
		if p == nil || p.server.Load() != 15 {
			return false
		}
		h, err := root.node.hierarchy("world")
		if err != nil {
			return false
		}
		for _, nb := range *h.view.Load() {
			if nb.id == p.id.ID() && nb.table.Known() && nb.table.Services() == 15 {
				return true
			}
		}
		return false
	})
	time.Sleep(3 * testPeriod) // by then what the child has told would have been passed on
	top.knows("root", 15)
	n.last().server.Withdraw(owners[0].ID(), "s0", 1)
	top.knows("root", 14)
}

// TestWhatEndedStaysEnded: a child that is spawned after services were withdrawn knows which versions have ended. Neither a word
// of the owner that comes late to it, nor one that was under way from the parent when the service ended, brings it back; a
// newer version does.
func TestWhatEndedStaysEnded(t *testing.T) {
	w := newWood(t)
	root, owner := w.grow("root"), w.identity(ca.KindUnit, "u")
	root.publish(owner, "s", 5, printer("printer", 1))
	old := announce.Sign(owner, "s", 5, []byte(printer("printer", 1)))
	under := root.server.Bodies(func(ca.ID) bool { return true }) // as handing over has read them
	root.server.Withdraw(owner.ID(), "s", 5)
	child := &planted{plant: &plant{wood: w, id: w.identity(ca.KindSDS, "root-1"), address: "127.0.0.1:0"}, ended: make(chan struct{})}
	child.start(func(c *Config) { c.Spawned = root.id.ID() })
	t.Cleanup(child.Stop)
	s := &sapling{seed: Seed{Name: "root-1"}, id: child.id.ID(), spawned: child, copied: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var sharing sync.WaitGroup
	sharing.Go(func() { root.node.share(ctx, s, child, time.Minute) })
	t.Cleanup(func() { cancel(); sharing.Wait() })
	<-s.copied
	<-child.node.Filled()
	var refused *announce.Refused
	if err := child.server.Put(old); !errors.As(err, &refused) || refused.Reason != announce.ReasonReplay {
		t.Errorf("the version that ended: %v", err)
	}
	_ = inParts(under, func(m *treepb.HandOverRequest) error {
		if r := child.node.takeOver(m); len(r) != 1 {
			t.Errorf("handed over late: %v are refused", r)
		}
		return nil
	})
	if unknown := child.server.Refresh(owner.ID(), time.Minute, []announce.Pair{{Name: "s", Version: 5}}); len(unknown) != 1 || child.server.Load() != 0 {
		t.Errorf("a late refresh: unknown %v; %d services", unknown, child.server.Load())
	}
	if err := child.server.Put(announce.Sign(owner, "s", 6, []byte(printer("printer", 1)))); err != nil {
		t.Errorf("a newer version: %v", err)
	}
	eventually(t, "the parent has it too", func() bool { return root.server.Load() == 1 })
	// What ends while they cannot speak has ended when they can again, though what is away is kept.
	cancel()
	sharing.Wait()
	child.server.Withdraw(owner.ID(), "s", 6)
	again, stop := context.WithCancel(context.Background())
	sharing.Go(func() { root.node.share(again, s, child, time.Minute) })
	t.Cleanup(func() { stop(); sharing.Wait() })
	eventually(t, "it has ended at the parent", func() bool { return root.server.Load() == 0 })
}
