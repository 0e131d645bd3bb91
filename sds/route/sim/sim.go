// Package sim runs hierarchies of many SDS servers in one process and without sockets, on the product's own cores: what
// travels are the messages of package summary, where questions go is what package route decides. One seed makes the
// whole run, so that a run that fails can be had again.
package sim

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/sds/route"
	"ninja/sds/summary"
)

// Config is what is simulated. Zero values are replaced by those of Small.
type Config struct {
	Servers  int    // in all
	Services int    // at each
	Fanout   int    // children of a server
	Queries  int    // in all, spread over the periods
	Periods  int    // after warming up
	Seed     uint64 // of everything
	// Churn is the share of services that change in a period; Cut the share of links that are down in one.
	Churn, Cut float64
	// Delay is the share of messages that arrive a period late.
	Delay float64
	// Paper also counts what the paper's rule would forward: tags and pairs of tags, in filters as large as they like.
	Paper bool
	// Workers is how many processors ask queries; 0 is all of them. The result is the same.
	Workers int `json:"-"`
	// Plan is what summaries tell together; the zero Plan is made from what is asked.
	Plan summary.Plan `json:"-"`
}

// Small is a run of a second.
func Small(seed uint64) Config {
	return Config{Servers: 40, Services: 60, Fanout: 6, Queries: 600, Periods: 6, Seed: seed, Churn: 0.01, Cut: 0.03, Delay: 0.2, Paper: true}
}

// Count is what was counted of forwards.
type Count struct {
	Down, DownUseless int // to children
	Up, UpUseless     int // to parents
}

// Result is what a run measured.
type Result struct {
	Config
	Asked, Matches int
	Missed         int    // services that were there, could be reached, and were not found
	First          string // what was missed first
	Unnamed        int    // services behind a link that is down, which no outcome names
	Flagged        int    // times that a child's account flagged it, though all are honest
	Late           int    // times that a server had not heard in time of one below it, though the links between are up
	Count                 // with the product's summaries
	Pairs          Count  // with the paper's rule
	Bytes          []int  // of changes sent upward in all periods by the servers of each level, the root's children first
	Changed        []int  // terms that came or went in these
	Again          []int  // of whole summaries, sent again because what was on the way was lost with a link
	Links          []int  // links at each level
	Whole          []int  // bytes that the summaries of one link have as a whole, on average by level
	Terms          []int  // in them
	PairTerms      []int  // that the paper's rule would tell
	Behind         []int  // services behind one link of the level, on average
	Stalest        int    // periods that the root was behind a server, the most and on average, links that are down included
	Stale          float64
	Told           summary.Plan // what summaries tell together
}

// node is a server.
type node struct {
	at       int
	id       ca.ID
	level    int // of the root: 0
	parent   *node
	children []*node
	services []service

	own      summary.Counting // what it tells of: its services and its children's sets
	plan     summary.Plan     // by which it tells
	sequence uint64
	whole    bool // its parent lacks what it told, and wants all
	tables   map[*node]*summary.Table
	ledgers  map[*node]*summary.Ledger
	queue    []*mail // to the parent, on the way
	sent     int     // bytes of this period's
	changed  int     // terms in it
	again    bool    // it was the whole
	cut      bool    // the link to the parent is down
	mended   int     // the period since which it is up
	late     bool    // what is sent in this period comes a period late
	fault    error   // of what its children told
	// What questions are routed by in this period: with all summaries tell, and with what the paper's rule tells.
	branches, paper []route.Branch
	who             []*node // they are
	// horizon is up to which period the server knows of the changes at each server below it.
	horizon map[int]int
}

// run is one simulation.
type run struct {
	Config
	*world
	Result
	nodes   []*node // the root first, parents before children
	period  int
	demand  summary.Demand
	planner summary.Planner
	truth   *truth
	crowds  []*crowd
	ended   func() error // why the run is to end before its end; nil: it is not
}

// settled is how many periods a change may take to be known everywhere: one a level, and one for messages that are late.
func (r *run) settled() int { return 2*r.depth() + 1 }

func (r *run) depth() int { return r.nodes[len(r.nodes)-1].level }

// Run simulates, until ctx ends.
func Run(ctx context.Context, cfg Config) (Result, error) {
	small := Small(cfg.Seed)
	cfg.Servers, cfg.Services, cfg.Fanout = cmp.Or(cfg.Servers, small.Servers), cmp.Or(cfg.Services, small.Services), cmp.Or(cfg.Fanout, small.Fanout)
	cfg.Queries, cfg.Periods = cmp.Or(cfg.Queries, small.Queries), cmp.Or(cfg.Periods, small.Periods)
	r := &run{Config: cfg, world: newWorld(cfg.Seed), Result: Result{Config: cfg}}
	r.build()
	r.ended = ctx.Err
	if err := r.warm(); err != nil {
		return r.Result, fmt.Errorf("seed %d: %w", cfg.Seed, err)
	}
	for i := range cfg.Periods {
		if err := r.step(); err != nil {
			return r.Result, fmt.Errorf("seed %d: %w", cfg.Seed, err)
		}
		r.ask(cfg.Queries*(i+1)/cfg.Periods - cfg.Queries*i/cfg.Periods)
	}
	if err := ctx.Err(); err != nil {
		return r.Result, err
	}
	r.measure()
	return r.Result, nil
}

// build makes the tree level by level; the servers of a level are dealt to those of the level above in turn, so that
// branches are alike.
func (r *run) build() {
	above, width := 0, 1 // of the level above: the first, and how many
	for i := range r.Servers {
		n := &node{at: i, id: ca.ID(fmt.Sprintf("spiffe://sim/sds/s%d", i)), tables: map[*node]*summary.Table{}, ledgers: map[*node]*summary.Ledger{}, whole: true, horizon: map[int]int{}}
		if i > 0 {
			if i == above+width+width*r.Fanout {
				above, width = above+width, width*r.Fanout
			}
			n.parent = r.nodes[above+(i-above-width)%width]
			n.level = n.parent.level + 1
			n.parent.children = append(n.parent.children, n)
			n.parent.ledgers[n] = new(summary.Ledger)
			n.parent.tables[n] = new(summary.Table)
		}
		for range r.Services {
			n.services = append(n.services, r.service(-1000))
		}
		r.nodes = append(r.nodes, n)
	}
	levels := r.depth()
	r.Bytes, r.Changed, r.Again, r.Links = make([]int, levels), make([]int, levels), make([]int, levels), make([]int, levels)
	r.Whole, r.Terms, r.PairTerms, r.Behind = make([]int, levels), make([]int, levels), make([]int, levels), make([]int, levels)
	for _, n := range r.nodes[1:] {
		r.Links[n.level-1]++
	}
	r.each(func(n *node) {
		for i := range n.services {
			n.tell(&n.services[i], true)
		}
	})
	r.truth = newTruth(r.nodes, r.Services)
}

// each calls f with every server, on all processors: f touches that server alone, or it and its children alone.
func (r *run) each(f func(*node)) {
	var done sync.WaitGroup
	var next atomic.Int64
	for range runtime.GOMAXPROCS(0) {
		done.Go(func() {
			for i := next.Add(1); int(i) <= len(r.nodes); i = next.Add(1) {
				f(r.nodes[i-1])
			}
		})
	}
	done.Wait()
}

// tell adds a service to what the server tells of, or takes it away. The root tells nobody.
func (n *node) tell(s *service, come bool) {
	if n.parent == nil {
		return
	}
	f := n.own.Add
	if !come {
		f = n.own.Remove
	}
	n.plan.Terms(s.facts(n.at), f)
}

// warm lets the summaries reach the root, the demand be heard and the plan follow, with no churn and no faults; then all of
// these begin.
func (r *run) warm() error {
	quiet := r.Config
	r.Churn, r.Cut, r.Delay = 0, 0, 0
	for range 2 {
		if err := r.steps(r.settled()); err != nil {
			return err
		}
		r.ask(max(200, min(2000, r.Queries/10)))
		r.replan()
	}
	if err := r.steps(r.settled() + r.depth()); err != nil {
		return err
	}
	r.Config = quiet
	if err := r.steps(r.settled()); err != nil { // so that changes are on their way at all levels
		return err
	}
	for i := range r.Bytes {
		r.Bytes[i], r.Changed[i], r.Again[i] = 0, 0, 0
	}
	r.Asked, r.Matches, r.Missed, r.Unnamed, r.Count, r.Pairs = 0, 0, 0, 0, Count{}, Count{}
	r.Flagged, r.Late, r.Stalest, r.Stale = 0, 0, 0, 0
	return nil
}

func (r *run) steps(n int) error {
	for range n {
		if err := r.step(); err != nil {
			return err
		}
	}
	return nil
}

// replan has the root plan from what was asked, and all follow: a plan goes down with the heartbeats, far sooner than
// sets come up, so that it is taken to be known at once.
func (r *run) replan() {
	useless := float64(r.DownUseless) / float64(max(1, r.Down))
	plan, changed := r.planner.Next(&r.demand, useless)
	if r.Config.Plan.Epoch > 0 {
		plan, changed = r.Config.Plan, true
	}
	r.Told = plan
	if !changed {
		return
	}
	r.each(func(n *node) {
		if n.parent == nil {
			return
		}
		for i := range n.services {
			f := n.services[i].facts(n.at)
			plan.Beyond(n.plan, f, n.own.Add)
			n.plan.Beyond(plan, f, n.own.Remove)
		}
		n.plan = plan
	})
}

// step is one period: services change, links fail and heal, every server tells its parent what has changed.
func (r *run) step() error {
	if r.ended != nil && r.ended() != nil {
		return r.ended()
	}
	r.period++
	for i, n := range r.nodes {
		for range r.churned(n) {
			r.change(place{int32(i), int32(r.IntN(len(n.services)))})
		}
	}
	for _, n := range r.nodes[1:] {
		n.cut, n.late = r.Float64() < r.Cut, r.Float64() < r.Delay
		if n.cut {
			n.mended = r.period + 1
		}
	}
	r.each(func(p *node) {
		for _, n := range p.children {
			if err := r.deliver(n); err != nil {
				p.fault = fmt.Errorf("a message of %s: %w", n.id, err)
			}
		}
	})
	r.each(r.send)
	for _, n := range r.nodes {
		if n.fault != nil {
			return n.fault
		}
		switch {
		case n.parent == nil:
		case n.again:
			r.Again[n.level-1] += n.sent
		default:
			r.Bytes[n.level-1] += n.sent
			r.Changed[n.level-1] += n.changed
		}
		for _, c := range n.children {
			if n.ledgers[c].Period(n.tables[c], 0, time.Second) != "" {
				r.Flagged++
			}
		}
	}
	r.age()
	return nil
}

// change puts another service in the place of one.
func (r *run) change(p place) {
	n := r.nodes[p.node]
	r.truth.remove(p)
	n.tell(&n.services[p.slot], false)
	n.services[p.slot] = r.service(r.period)
	n.tell(&n.services[p.slot], true)
	r.truth.add(p)
}

// age looks how far the root is behind each server. Where no link has failed of late, it may not be far.
func (r *run) age() {
	behind := 0
	for _, n := range r.nodes[1:] {
		late, mended := r.period-r.nodes[0].horizon[n.at], 0
		for m := n; m.parent != nil; m = m.parent {
			mended = max(mended, m.mended)
		}
		if late > r.settled() && r.period-mended > r.settled() {
			r.Late++
		}
		r.Stalest, behind = max(r.Stalest, late), behind+late
	}
	r.Stale += float64(behind) / float64(len(r.nodes)-1) / float64(r.Periods)
}

// churned is how many services of a server change in this period.
func (r *run) churned(n *node) int {
	want := r.Churn * float64(len(n.services))
	k := int(want)
	if r.Float64() < want-float64(k) {
		k++
	}
	return k
}

// measure looks at the summaries of the links as they are at the end.
func (r *run) measure() {
	for _, n := range r.nodes[1:] {
		t := n.parent.tables[n]
		l := n.level - 1
		r.Whole[l] += len((&summary.Message{Plan: t.Plan(), Terms: t.Terms(), Added: t.Set()}).Encode())
		r.Terms[l] += t.Terms()
		r.Behind[l] += int(t.Services())
	}
	for l, links := range r.Links {
		r.Whole[l], r.Terms[l], r.Behind[l] = r.Whole[l]/links, r.Terms[l]/links, r.Behind[l]/links
	}
	if r.Paper {
		r.measurePairs()
	}
}

// measurePairs counts what the paper's rule would tell behind one link of each level.
func (r *run) measurePairs() {
	pairs := r.planner.Plan()
	pairs.Triples = nil
	for l := range r.Links {
		for _, n := range r.nodes {
			if n.level != l+1 {
				continue
			}
			terms := make(map[summary.Term]bool)
			n.eachBelow(func(m *node) {
				for i := range m.services {
					pairs.Terms(m.services[i].facts(m.at), func(t summary.Term) { terms[t] = true })
				}
			})
			r.PairTerms[l] = len(terms)
			break // one is like another
		}
	}
}

// eachBelow calls f with a server and all below it.
func (n *node) eachBelow(f func(*node)) {
	f(n)
	for _, c := range n.children {
		c.eachBelow(f)
	}
}
