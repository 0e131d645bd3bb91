package sim

import (
	"fmt"
	"time"

	"ninja/ca"
	"ninja/sds/route"
)

// crowd is many queries that one processor takes through the tree together: first from where they begin to the root, then
// down, at each server all that come there. So a server's tables are in the processor's cache while they are asked;
// query by query, nearly every look would be at a line of memory that no cache has. A crowd reads the run, and writes to
// itself alone.
type crowd struct {
	*run
	asked        []asked
	paper        bool
	visits       []visit
	last         []int32   // visit of each query
	fromBelow    [][]int32 // visits that wait at each server
	fromAbove    [][]int32
	match, below []int32 // matching services at each server, and at and below it, for one query
	searched     []bool
	named        []bool // servers the link to whose parent was named as unreachable
}

// visit is a query at a server; or, when cut, an outcome that names the link between the server and its parent.
type visit struct {
	query, node int32
	from        int32 // the visit that sent it here; -1: it begins here
	before      int32 // the visit of the same query before this one; -1: none
	found       int32 // matches here and where it went on to
	hops        int8
	up          bool // from a child
	cut         bool
}

func newCrowd(r *run) *crowd {
	n := len(r.nodes)
	return &crowd{
		run: r, asked: make([]asked, 0, atOnce), last: make([]int32, atOnce), fromBelow: make([][]int32, n), fromAbove: make([][]int32, n),
		match: make([]int32, n), below: make([]int32, n), searched: make([]bool, n), named: make([]bool, n),
	}
}

func (c *crowd) ask() {
	for i := range c.asked {
		c.asked[i].question = c.asked[i].query.question()
	}
	c.paper = false
	c.travel()
	for i := range c.asked {
		a := &c.asked[i]
		c.expect(a)
		c.judge(i, &a.count)
		c.check(a)
	}
	if !c.Paper {
		return
	}
	c.paper = true
	c.travel()
	for i := range c.asked {
		a := &c.asked[i]
		if a.conditions() < 3 { // no triples are asked: it goes the same ways
			a.paper = a.count
			continue
		}
		c.expect(a)
		c.judge(i, &a.paper)
	}
}

// travel takes all queries wherever they go. Servers stand in order of level: from the last to the first all come by that
// go up, from the first to the last those that go down.
func (c *crowd) travel() {
	c.visits = c.visits[:0]
	for i := range c.asked {
		c.last[i] = -1
		if c.paper && c.asked[i].conditions() < 3 {
			continue
		}
		at := c.asked[i].start.at
		first := c.arrive(visit{query: int32(i), node: int32(at), from: -1, hops: route.HopsMost})
		c.fromBelow[at] = append(c.fromBelow[at], first)
	}
	for i := len(c.nodes) - 1; i >= 0; i-- {
		for _, v := range c.fromBelow[i] {
			c.visit(v)
		}
		c.fromBelow[i] = c.fromBelow[i][:0]
	}
	for i := range c.nodes {
		for _, v := range c.fromAbove[i] {
			c.visit(v)
		}
		c.fromAbove[i] = c.fromAbove[i][:0]
	}
}

// arrive notes a visit and returns its number.
func (c *crowd) arrive(v visit) int32 {
	at := int32(len(c.visits))
	v.before, c.last[v.query] = c.last[v.query], at
	c.visits = append(c.visits, v)
	return at
}

// visit has a server do what route decides.
func (c *crowd) visit(at int32) {
	v := c.visits[at]
	n := c.nodes[v.node]
	branches := n.branches
	if c.paper {
		branches = n.paper
	}
	a := route.Arrival{Question: c.asked[v.query].question, Scope: route.All, Domain: "sim", Hops: int(v.hops), Left: time.Second}
	if v.from >= 0 {
		a.From, a.FromUp, a.Hierarchy = c.nodes[c.visits[v.from].node].id, !v.up, "h"
	}
	d := route.Decide(n.id, branches, a)
	if !d.Search {
		panic("sim: a server that a question comes to once does not search")
	}
	for _, o := range d.Outcomes {
		if o.Status == route.Unreachable {
			c.arrive(visit{query: v.query, node: int32(n.linkTo(o.Server).at), cut: true})
		}
	}
	for _, s := range d.Steps {
		next := n.who[s.Branch]
		up := branches[s.Branch].Up
		w := c.arrive(visit{query: v.query, node: int32(next.at), from: at, hops: int8(s.Hops), up: up})
		if up {
			c.fromBelow[next.at] = append(c.fromBelow[next.at], w)
		} else {
			c.fromAbove[next.at] = append(c.fromAbove[next.at], w)
		}
	}
}

// linkTo is the lower end of the link to a neighbour.
func (n *node) linkTo(id ca.ID) *node {
	for i, who := range n.who {
		if who.id == id && !n.branches[i].Up {
			return who
		}
	}
	return n
}

// expect says what a query should find.
func (c *crowd) expect(a *asked) {
	a.matches = c.truth.count(a.query, c.match)
	copy(c.below, c.match)
	for i := len(c.below) - 1; i > 0; i-- { // children come after their parents
		c.below[c.nodes[i].parent.at] += c.below[i]
	}
}

// judge goes back over the visits of a query, from the last to the first, and counts which of them were of use.
func (c *crowd) judge(query int, count *Count) {
	a := &c.asked[query]
	clear(c.searched)
	clear(c.named)
	for at := c.last[query]; at >= 0; at = c.visits[at].before {
		v := &c.visits[at]
		if v.cut {
			c.named[v.node] = true
			continue
		}
		c.searched[v.node] = true
		v.found += c.match[v.node]
		if v.from < 0 {
			continue
		}
		from := &c.visits[v.from]
		from.found += v.found
		if v.up {
			count.Up++
			if v.found == 0 {
				count.UpUseless++
			}
			continue
		}
		useful := c.below[v.node] > 0
		count.Down++
		if !useful {
			count.DownUseless++
		}
		if n, next := c.nodes[from.node], c.nodes[v.node]; !c.paper {
			a.notes = append(a.notes, note{n.ledgers[next], useful, n.tables[next].AnswersFor(a.question)})
		}
	}
}

// check holds what was found against what is there. Must be found what the servers on the way had been told of; what
// lies behind a link that is down must be named.
func (c *crowd) check(a *asked) {
	for i, k := range c.match {
		if k == 0 || c.searched[i] {
			continue
		}
		n := c.nodes[i]
		turn, down, named := c.between(a.start, n)
		c.truth.each(a.query, i, func(p place) {
			switch {
			case down && named, int(n.services[p.slot].born) > turn.horizon[i]:
				return
			case down:
				a.unnamed++
			default:
				a.missed++
			}
			if a.first == "" {
				a.first = fmt.Sprintf("seed %d period %d: %v asked at %s: service %d of %s", c.Seed, c.period, a.query, a.start.id, p.slot, n.id)
			}
		})
	}
}

// between follows the way from one server to another: turn is where it leads down, down says that a link of it is down,
// named that one of those was named.
func (c *crowd) between(a, b *node) (turn *node, down, named bool) {
	for a != b {
		if a.level < b.level {
			a, b = b, a
		}
		down, named = down || a.cut, named || a.cut && c.named[a.at]
		a = a.parent
	}
	return a, down, named
}
