package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"ninja/ca"
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
	// Kinds are the kinds of principals whose services it answers for: its extent.
	Kinds []string
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
	// Services is how many announce themselves to a server at most before it spawns, Queries how many it answers in a
	// second; 0 is no limit. When what announces itself to it and to a child is less than half of the limits, the child is
	// taken back.
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
	spawned Spawned
	end     func() // of the copying; it waits
	whole   sync.Once
	copied  chan struct{} // closed when it has told all that it has
}

// pressure is the pure part: when to grow and shrink.
type pressure struct {
	Growth
	over, under int
}

// step takes the load of one period, of the server itself and with the child that could be taken back.
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

// covers reports whether the child is to answer for the services of an owner.
func (s Seed) covers(owner ca.ID) bool { return slices.Contains(s.Kinds, owner.Kind()) }

// split chooses the kinds of principals to hand over: those that come nearest to half of the services; none when all are
// of one kind.
func split(kinds map[string]int) (out []string) {
	all := 0
	for _, n := range kinds {
		all += n
	}
	names := slices.Collect(maps.Keys(kinds))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(kinds[b], kinds[a]), cmp.Compare(a, b)) })
	taken := 0
	for _, k := range names {
		if 2*(taken+kinds[k]) <= all || taken == 0 && len(names) > 1 && k != names[0] {
			out, taken = append(out, k), taken+kinds[k]
		}
	}
	if len(out) == len(names) {
		return nil
	}
	return out
}

// Grow watches the load and spawns and takes back children until ctx ends, whose error it returns. A child that crashes
// is started again and refills by listening.
func (n *Node) Grow(ctx context.Context, g Growth) error {
	if g.Spawner == nil || g.Services <= 0 && g.Queries <= 0 {
		return errors.New("tree: growth wants a spawner and a limit")
	}
	g.Hierarchy, g.Most, g.Settle = cmp.Or(g.Hierarchy, "local"), cmp.Or(g.Most, 4), cmp.Or(g.Settle, 30*time.Second)
	p := pressure{Growth: g}
	var saplings []*sapling
	defer func() {
		for _, s := range saplings {
			s.spawned.Stop()
			s.end()
		}
	}()
	tick := time.NewTicker(n.cfg.Period)
	defer tick.Stop()
	last := n.cfg.Local.Queries()
	var grown time.Time
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now := n.cfg.Local.Queries()
		rate := float64(now-last) / n.cfg.Period.Seconds()
		last = now
		n.revive(ctx, g, saplings)
		var youngest ca.ID
		if len(saplings) > 0 {
			youngest = saplings[len(saplings)-1].id
		}
		here, there := n.cfg.Local.Announced(youngest)
		grow, shrink := p.step(here, rate, here+there)
		switch {
		case grow && len(saplings) < g.Most && time.Since(grown) > g.Settle:
			if s := n.sprout(ctx, g, len(saplings)); s != nil {
				saplings, grown = append(saplings, s), time.Now()
			}
		case shrink && len(saplings) > 0:
			if n.takeBack(ctx, saplings[len(saplings)-1]) {
				saplings = saplings[:len(saplings)-1]
			}
		}
	}
}

// startTime bounds the start of a child and a handing over.
const startTime = time.Minute

// sprout starts a child, hands over a part, and says so. It returns nil when that failed: at the next pressure it is tried
// again.
func (n *Node) sprout(ctx context.Context, g Growth, i int) *sapling {
	kinds := make(map[string]int)
	n.cfg.Local.Bodies(func(owner ca.ID, services int) bool { kinds[owner.Kind()] += services; return false })
	seed := Seed{Name: fmt.Sprintf("%s-%d", n.self.Name(), i+1), Hierarchy: g.Hierarchy, Parent: n.self, Address: n.cfg.Address, Kinds: split(kinds)}
	if len(seed.Kinds) == 0 {
		n.cfg.Log.Warn("too much load, and all of one kind: give another server a part of the networks", "services", n.cfg.Local.Load())
		return nil
	}
	id, err := ca.MakeID(n.self.Domain(), ca.KindSDS, seed.Name)
	if err != nil {
		n.cfg.Log.Error("could not spawn a server", "name", seed.Name, "error", err)
		return nil
	}
	n.mu.Lock()
	delete(n.copied, id) // one of that name, taken back before, left nothing that is not here
	n.mu.Unlock()
	life := ctx
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	spawned, err := g.Spawner.Spawn(ctx, seed)
	if err != nil {
		n.cfg.Log.Error("could not spawn a server", "name", seed.Name, "error", err)
		return nil
	}
	s := &sapling{seed: seed, id: id, spawned: spawned, copied: make(chan struct{})}
	n.tend(life, g, s)
	if err := n.handOver(ctx, s); err != nil {
		// It refills by listening, as after a crash; what it lacks is still here.
		n.cfg.Log.Error("could not hand over to a spawned server", "name", seed.Name, "error", err)
	}
	s.await(ctx)
	n.cfg.Log.Info("spawned a server", "name", seed.Name, "kinds", seed.Kinds, "address", spawned.Address())
	return s
}

// revive starts children again that have ended by themselves.
func (n *Node) revive(ctx context.Context, g Growth, saplings []*sapling) {
	for _, s := range saplings {
		select {
		case <-s.spawned.Ended():
		default:
			continue
		}
		n.cfg.Log.Warn("a spawned server has ended: starting it again", "name", s.seed.Name)
		start, cancel := context.WithTimeout(ctx, startTime)
		spawned, err := g.Spawner.Spawn(start, s.seed)
		cancel()
		if err != nil {
			n.cfg.Log.Error("could not start it again", "name", s.seed.Name, "error", err)
			continue
		}
		s.end()
		s.spawned = spawned
		n.tend(ctx, g, s)
	}
}

// tend has a child and this server be kept alike while the child runs.
func (n *Node) tend(ctx context.Context, g Growth, s *sapling) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	spawned := s.spawned
	all.Go(func() { n.share(ctx, s, spawned, 2*g.Settle) })
	s.end = func() { cancel(); all.Wait() }
}
