package sim

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ninja/sds/route"
	"ninja/sds/summary"
)

// atOnce is how many queries are drawn before they are asked, on all processors.
const atOnce = 1024

// asked is one query, and what came of it.
type asked struct {
	query
	start           *node
	question        *summary.Question
	matches         int
	missed, unnamed int
	first           string // of what was missed or not named
	count, paper    Count
	notes           []note
}

// note is what a parent's account of a child is told of a forward.
type note struct {
	ledger       *summary.Ledger
	useful, owed bool
}

// ask sends queries from random servers and looks what comes of them. What is drawn, and what is made of the outcomes, is
// in one order, however many processors look for them.
func (r *run) ask(queries int) {
	r.look()
	workers := r.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	journeys := make([]*journey, workers)
	for i := range journeys {
		journeys[i] = r.journey()
	}
	all := make([]asked, min(queries, atOnce))
	for queries > 0 {
		all = all[:min(queries, len(all))]
		queries -= len(all)
		for i := range all {
			all[i] = asked{query: r.draw(), start: r.nodes[r.IntN(len(r.nodes))], notes: all[i].notes[:0]}
		}
		var done sync.WaitGroup
		var next atomic.Int64
		for _, j := range journeys {
			done.Go(func() {
				for i := next.Add(1); int(i) <= len(all); i = next.Add(1) {
					j.ask(&all[i-1])
				}
			})
		}
		done.Wait()
		for i := range all {
			r.take(&all[i])
		}
	}
}

func (r *run) draw() query {
	return r.query(r.Servers, func() service {
		n := r.nodes[r.IntN(len(r.nodes))]
		return n.services[r.IntN(len(n.services))]
	})
}

// look has every server see its neighbours as they are in this period.
func (r *run) look() {
	r.each(func(n *node) {
		n.branches, n.paper, n.who = n.branches[:0], n.paper[:0], n.who[:0]
		for _, c := range n.children {
			t := n.tables[c]
			b := route.Branch{ID: c.id, Hierarchy: "h", Alive: !c.cut, Table: t}
			n.branches, n.who = append(n.branches, b), append(n.who, c)
			if r.Paper {
				plan := t.Plan()
				plan.Triples = nil
				b.Table = t.Under(plan)
				n.paper = append(n.paper, b)
			}
		}
		if n.parent != nil {
			b := route.Branch{ID: n.parent.id, Hierarchy: "h", Up: true, Alive: !n.cut}
			n.branches, n.paper, n.who = append(n.branches, b), append(n.paper, b), append(n.who, n.parent)
		}
	})
}

// take adds the outcome of one query to the result.
func (r *run) take(a *asked) {
	r.demand.Note(a.question)
	for _, n := range a.notes {
		n.ledger.Note(n.useful, n.owed)
	}
	r.Asked++
	r.Matches += a.matches
	r.Missed += a.missed
	r.Unnamed += a.unnamed
	r.Count.add(a.count)
	r.Pairs.add(a.paper)
	if r.First == "" {
		r.First = a.first
	}
}

func (c *Count) add(o Count) {
	c.Down += o.Down
	c.DownUseless += o.DownUseless
	c.Up += o.Up
	c.UpUseless += o.UpUseless
}

// journey is one question under way, and the room for it, which the next one uses again. It reads the run, and writes to
// its query alone.
type journey struct {
	run          *run
	asked        *asked
	count        *Count
	paper        bool
	match, below []int32 // matching services at each server, and at and below it
	searched     []bool
	named        []bool // servers the link to whose parent was named as unreachable
}

func (r *run) journey() *journey {
	n := len(r.nodes)
	return &journey{run: r, match: make([]int32, n), below: make([]int32, n), searched: make([]bool, n), named: make([]bool, n)}
}

func (j *journey) ask(a *asked) {
	r := j.run
	a.question = a.query.question()
	a.matches = r.truth.count(a.query, j.match)
	copy(j.below, j.match)
	for i := len(j.below) - 1; i > 0; i-- { // children come after their parents
		j.below[r.nodes[i].parent.at] += j.below[i]
	}
	arrival := route.Arrival{Question: a.question, Scope: route.All, Domain: "sim", Hops: route.HopsMost, Left: time.Second}
	clear(j.searched)
	clear(j.named)
	j.asked, j.paper, j.count = a, false, &a.count
	j.visit(a.start, arrival)
	j.check()
	if r.Paper {
		j.paper, j.count = true, &a.paper
		j.visit(a.start, arrival)
	}
}

// visit has a server do what route decides, and returns how many matches lie that way.
func (j *journey) visit(n *node, a route.Arrival) int {
	branches := n.branches
	if j.paper {
		branches = n.paper
	}
	d := route.Decide(n.id, branches, a)
	found := 0
	if d.Search {
		found = int(j.match[n.at])
		j.searched[n.at] = true
	}
	for _, o := range d.Outcomes {
		if o.Status == route.Unreachable {
			j.name(n, o)
		}
	}
	for _, s := range d.Steps {
		b, next := &branches[s.Branch], n.who[s.Branch]
		got := j.visit(next, route.Arrival{
			Question: a.Question, Scope: a.Scope, From: n.id, FromUp: !b.Up, Hierarchy: b.Hierarchy, Domain: a.Domain, Hops: s.Hops, Left: s.Left,
		})
		found += got
		if b.Up {
			j.count.Up++
			if got == 0 {
				j.count.UpUseless++
			}
			continue
		}
		useful := j.below[next.at] > 0
		j.count.Down++
		if !useful {
			j.count.DownUseless++
		}
		if !j.paper {
			j.asked.notes = append(j.asked.notes, note{n.ledgers[next], useful, b.Table.AnswersFor(a.Question)})
		}
	}
	return found
}

// name notes the link that an outcome of a server names.
func (j *journey) name(n *node, o route.Outcome) {
	for i, who := range n.who {
		switch {
		case n.branches[i].ID != o.Server:
		case n.branches[i].Up:
			j.named[n.at] = true
		default:
			j.named[who.at] = true
		}
	}
}

// check holds what was found against what is there. Must be found what the servers on the way had been told of; what
// lies behind a link that is down must be named.
func (j *journey) check() {
	a, r := j.asked, j.run
	for i, k := range j.match {
		if k == 0 || j.searched[i] {
			continue
		}
		n := r.nodes[i]
		turn, down, named := j.between(a.start, n)
		r.truth.each(a.query, i, func(p place) {
			switch {
			case down && named, int(n.services[p.slot].born) > turn.horizon[i]:
				return
			case down:
				a.unnamed++
			default:
				a.missed++
			}
			if a.first == "" {
				a.first = fmt.Sprintf("seed %d period %d: %v asked at %s: service %d of %s", r.Seed, r.period, a.query, a.start.id, p.slot, n.id)
			}
		})
	}
}

// between follows the way from one server to another: turn is where it leads down, down says that a link of it is down,
// named that one of those was named.
func (j *journey) between(a, b *node) (turn *node, down, named bool) {
	for a != b {
		if a.level < b.level {
			a, b = b, a
		}
		down, named = down || a.cut, named || a.cut && j.named[a.at]
		a = a.parent
	}
	return a, down, named
}
