package sim

import (
	"runtime"
	"sync"

	"ninja/sds/route"
	"ninja/sds/summary"
)

// atOnce is how many queries one processor asks together.
const atOnce = 4096

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
	if r.Workers <= 0 {
		r.Workers = runtime.GOMAXPROCS(0)
	}
	for len(r.crowds) < r.Workers {
		r.crowds = append(r.crowds, newCrowd(r))
	}
	for queries > 0 && (r.ended == nil || r.ended() == nil) {
		var done sync.WaitGroup
		for _, c := range r.crowds {
			c.asked = c.asked[:min(queries, atOnce)]
			queries -= len(c.asked)
			for i := range c.asked {
				a := &c.asked[i]
				*a = asked{query: r.draw(), start: r.nodes[r.IntN(len(r.nodes))], notes: a.notes[:0]}
			}
			done.Go(c.ask)
		}
		done.Wait()
		for _, c := range r.crowds {
			for i := range c.asked {
				r.take(&c.asked[i])
			}
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
