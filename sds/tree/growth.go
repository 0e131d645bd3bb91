package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/sds/announce"
)

// Spawner starts servers that share the load of one (ninja-architecture 6.2, Czerwinski et al. 1999: "a server spawns a
// new process ... and allocates a portion of its existing workload to the new server").
type Spawner interface {
	// Spawn starts a server that joins as the seed says, and returns when it serves. Its error is for the log; it is tried
	// again later.
	Spawn(ctx context.Context, s Seed) (Spawned, error)
}

// Seed says what is started.
type Seed struct {
	Name      string // of the SDS server
	Hierarchy string // that it joins,
	Parent    ca.ID  // below this server,
	Address   string // which is here
	// Extent is whose services it takes the announcements of: of some kinds of principals, or of a range of owners. Its
	// networks are those of the server that it shares the load of.
	Extent announce.Extent
}

// Spawned is a server that was started.
type Spawned interface {
	// Address is where it is reached.
	Address() string
	// Ended is closed when it runs no more.
	Ended() <-chan struct{}
	// Stop ends it; it may be called again.
	Stop()
}

// Growth is when a server grows.
type Growth struct {
	Spawner Spawner
	// Hierarchy is the one that children join; "" is "local".
	Hierarchy string
	// Extent is the server's own; its networks do not count here.
	Extent announce.Extent
	// Services is how many announce themselves to one server at most before another one takes a part of them, Queries how
	// many this server answers in a second; 0 is no limit. When what announces itself to the youngest child and to the one
	// that it took its part from is less than half of the limits, the child is taken back.
	Services int
	Queries  float64
	// Most is how many children it spawns; 0 is 4.
	Most int
	// Settle is how long services take to move between servers, and no other child is spawned meanwhile; for twice as long
	// what an absent child told is kept. 0 is 30 s.
	Settle time.Duration
}

// Spans of the decision, in periods: a peak is not a load.
const (
	overFor  = 3
	underFor = 10
)

// sapling is a child that was spawned.
type sapling struct {
	seed    Seed
	id      ca.ID
	from    int // whose part it took: 0 is this server, i the sapling before the i-th
	spawned Spawned
	end     func()      // of the copying; it waits
	alike   atomic.Bool // it tells what it hears, and has told all
	whole   sync.Once
	copied  chan struct{} // closed when it has told all that it has
}

// pressure is the pure part: when to grow and shrink.
type pressure struct {
	Growth
	over, under int
}

// step takes the load of one period: the services of the fullest server of the family, the queries that this one answers,
// and the services of the child that could be taken back and of the one that would have them.
func (p *pressure) step(services int, queries float64, together int) (grow, shrink bool) {
	high := p.Services > 0 && services > p.Services || p.Queries > 0 && queries > p.Queries
	low := (p.Services == 0 || together < p.Services/2) && (p.Queries == 0 || queries < p.Queries/2)
	p.over, p.under = (p.over+1)*btoi(high), (p.under+1)*btoi(low && !high)
	grow, shrink = p.over >= overFor, p.under >= underFor
	if grow {
		p.over = 0
	}
	if shrink {
		p.under = 0
	}
	return grow, shrink
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// grower is growth under way. Its goroutine owns it.
type grower struct {
	*Node
	Growth
	pressure pressure
	saplings []*sapling // the youngest last; it is the first to be taken back
	queries  int64      // that were answered at the last tick
	grown    time.Time
	stuck    string // why it cannot grow, once that is logged
}

// Grow watches the load and spawns and takes back children until ctx ends, whose error it returns. A child that crashes
// is started again and refills by listening.
func (n *Node) Grow(ctx context.Context, g Growth) error {
	if g.Spawner == nil || g.Services <= 0 && g.Queries <= 0 {
		return errors.New("tree: growth wants a spawner and a limit")
	}
	g.Hierarchy, g.Most, g.Settle = cmp.Or(g.Hierarchy, "local"), cmp.Or(g.Most, 4), cmp.Or(g.Settle, 30*time.Second)
	grow := &grower{Node: n, Growth: g, pressure: pressure{Growth: g}, queries: n.cfg.Local.Queries()}
	defer func() {
		for _, s := range grow.saplings {
			s.spawned.Stop()
			s.end()
		}
	}()
	tick := time.NewTicker(n.cfg.Period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			grow.tick(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tick judges the load of one period.
func (g *grower) tick(ctx context.Context) {
	answered := g.cfg.Local.Queries()
	rate := float64(answered-g.queries) / g.cfg.Period.Seconds()
	g.queries = answered
	g.revive(ctx)
	loads := g.loads()
	together, last := loads[0], len(g.saplings)-1
	if last >= 0 {
		together = loads[last+1] + loads[g.saplings[last].from]
	}
	grow, shrink := g.pressure.step(slices.Max(loads), rate, together)
	switch {
	case grow && time.Since(g.grown) > g.Settle:
		g.grow(ctx, loads)
	case shrink && last >= 0:
		if g.takeBack(g.saplings[last]) {
			g.saplings = g.saplings[:last]
		}
	}
}

// loads are how many services announce themselves to each in the family.
func (g *grower) loads() []int {
	announced := g.cfg.Local.Announced()
	loads := []int{announced[""]}
	for _, s := range g.saplings {
		loads = append(loads, announced[s.id])
	}
	return loads
}

// family is the server with its children.
func (g *grower) family() family {
	f := family{g.Extent}
	for _, s := range g.saplings {
		f = append(f, s.seed.Extent)
	}
	return f
}

// grow has a new child take a part of the fullest server whose part can be split.
func (g *grower) grow(ctx context.Context, loads []int) {
	if len(g.saplings) >= g.Most {
		g.complain("as many servers as may be spawned are there: allow more, or give another server a part of the networks")
		return
	}
	f, services := g.family(), g.cfg.Local.Owners()
	order := make([]int, len(f))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(loads[b], loads[a]) })
	for _, at := range order {
		if at > 0 && (g.Services == 0 || loads[at] <= g.Services) {
			continue
		}
		if part, ok := f.split(at, services); ok {
			g.stuck = ""
			if s := g.sprout(ctx, at, part); s != nil {
				g.saplings, g.grown = append(g.saplings, s), time.Now()
			}
			return
		}
	}
	g.complain("all services are of one owner: give another server a part of the networks")
}

// complain says once why the server does not grow.
func (g *grower) complain(why string) {
	if g.stuck != why {
		g.cfg.Log.Warn("too much load, and "+why, "services", g.cfg.Local.Load(), "spawned", len(g.saplings))
	}
	g.stuck = why
}

// startTime bounds the start of a child and a handing over.
const startTime = time.Minute

// sprout starts a child, hands over a part, and says so. It returns nil when that failed: at the next pressure it is tried
// again.
func (g *grower) sprout(ctx context.Context, from int, part announce.Extent) *sapling {
	seed := Seed{Name: fmt.Sprintf("%s-%d", g.self.Name(), len(g.saplings)+1), Hierarchy: g.Hierarchy, Parent: g.self, Address: g.cfg.Address, Extent: part}
	id, err := ca.MakeID(g.self.Domain(), ca.KindSDS, seed.Name)
	if err != nil {
		g.cfg.Log.Error("could not spawn a server", "name", seed.Name, "error", err)
		return nil
	}
	g.mu.Lock()
	delete(g.copied, id) // one of that name, taken back before, left nothing that is not here
	g.mu.Unlock()
	start, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	spawned, err := g.Spawner.Spawn(start, seed)
	if err != nil {
		g.cfg.Log.Error("could not spawn a server", "name", seed.Name, "error", err)
		return nil
	}
	s := &sapling{seed: seed, id: id, from: from, spawned: spawned, copied: make(chan struct{})}
	g.tend(ctx, s)
	f := append(g.family(), part)
	if err := g.handOver(start, s, func(owner ca.ID) bool { return f.of(owner) == len(f)-1 }); err != nil {
		// It refills by listening, as after a crash; what it lacks is still here.
		g.cfg.Log.Error("could not hand over to a spawned server", "name", seed.Name, "error", err)
	}
	s.await(start)
	g.cfg.Log.Info("spawned a server", "name", seed.Name, "kinds", part.Kinds, "owners", part.Owners.String(), "address", spawned.Address())
	return s
}

// revive starts children again that have ended by themselves.
func (g *grower) revive(ctx context.Context) {
	for _, s := range g.saplings {
		select {
		case <-s.spawned.Ended():
		default:
			continue
		}
		g.cfg.Log.Warn("a spawned server has ended: starting it again", "name", s.seed.Name)
		start, cancel := context.WithTimeout(ctx, startTime)
		spawned, err := g.Spawner.Spawn(start, s.seed)
		cancel()
		if err != nil {
			g.cfg.Log.Error("could not start it again", "name", s.seed.Name, "error", err)
			continue
		}
		s.end()
		s.spawned = spawned
		g.tend(ctx, s)
	}
}

// tend has a child and this server be kept alike while the child runs.
func (g *grower) tend(ctx context.Context, s *sapling) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	spawned := s.spawned
	all.Go(func() { g.share(ctx, s, spawned, 2*g.Settle) })
	s.end = func() { cancel(); all.Wait() }
}

// takeBack ends a child. All that it has been told is here already, as copies; what it hears until it ends announces itself
// to who is followed next.
func (g *grower) takeBack(s *sapling) bool {
	if !s.alike.Load() {
		return false // later, when it is known to have told all
	}
	s.spawned.Stop()
	s.end()
	g.cfg.Log.Info("took back a spawned server", "name", s.seed.Name)
	return true
}
