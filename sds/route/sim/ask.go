package sim

import (
	"fmt"
	"time"

	"ninja/sds/route"
	"ninja/sds/summary"
)

// reindex lists services by what they say, so that what a query should find is known without asking.
func (r *run) reindex() {
	r.index = make(map[posting][]place)
	put := func(field byte, value uint64, p place) {
		k := posting{field, value}
		r.index[k] = append(r.index[k], p)
	}
	for i, n := range r.nodes {
		for j := range n.services {
			s, p := &n.services[j], place{int32(i), int32(j)}
			put('k', uint64(s.kind), p)
			put('m', uint64(s.maker), p)
			put('s', uint64(i), p)
			put('n', s.name, p)
		}
	}
}

// expected are the services that match: the shortest list, looked through.
func (r *run) expected(q query) (out []place) {
	list := r.index[posting{'k', uint64(max(0, q.kind))}]
	shorter := func(field byte, value uint64) {
		if l := r.index[posting{field, value}]; len(l) < len(list) || q.kind < 0 && field == 'n' {
			list = l
		}
	}
	if q.maker >= 0 {
		shorter('m', uint64(q.maker))
	}
	if q.site >= 0 {
		shorter('s', uint64(q.site))
	}
	if q.name != 0 {
		shorter('n', q.name)
	}
	for _, p := range list {
		if q.matches(&r.nodes[p.node].services[p.slot], int(p.node)) {
			out = append(out, p)
		}
	}
	return out
}

// journey is one question under way.
type journey struct {
	*run
	question *summary.Question
	match    []int // matching services at each server
	below    []int // matching services at each server and below
	total    int
	searched map[*node]bool
	named    map[*node]bool // servers the link to whose parent was named as unreachable
	count    Count
	paper    bool
}

// ask sends queries from random servers and looks what comes of them.
func (r *run) ask(queries int) {
	match, below := make([]int, len(r.nodes)), make([]int, len(r.nodes))
	for range queries {
		q := r.query(r.Servers, func() service {
			n := r.nodes[r.IntN(len(r.nodes))]
			return n.services[r.IntN(len(n.services))]
		})
		expected := r.expected(q)
		clear(match)
		clear(below)
		for _, p := range expected {
			match[p.node]++
			for n := r.nodes[p.node]; n != nil; n = n.parent {
				below[n.at]++
			}
		}
		j := &journey{run: r, question: q.question(), match: match, below: below, total: len(expected), searched: map[*node]bool{}, named: map[*node]bool{}}
		r.demand.Note(j.question)
		start := r.nodes[r.IntN(len(r.nodes))]
		j.visit(start, route.Arrival{Question: j.question, Scope: route.All, Domain: "sim", Hops: route.HopsMost, Left: time.Second})
		r.Asked++
		r.Matches += len(expected)
		r.Count.add(j.count)
		r.check(j, q, start, expected)
		if r.Paper {
			p := &journey{run: r, question: j.question, match: match, below: below, total: len(expected), searched: map[*node]bool{}, named: map[*node]bool{}, paper: true}
			p.visit(start, route.Arrival{Question: j.question, Scope: route.All, Domain: "sim", Hops: route.HopsMost, Left: time.Second})
			r.Pairs.add(p.count)
		}
	}
}

func (c *Count) add(o Count) {
	c.Down += o.Down
	c.DownUseless += o.DownUseless
	c.Up += o.Up
	c.UpUseless += o.UpUseless
}

// branches are the neighbours of a server as it sees them.
func (j *journey) branches(n *node) (out []route.Branch, who []*node) {
	for _, c := range n.children {
		t := n.tables[c]
		if j.paper {
			plan := t.Plan()
			plan.Triples = nil
			t = t.Under(plan)
		}
		out = append(out, route.Branch{ID: c.id, Hierarchy: "h", Alive: !c.cut, Table: t})
		who = append(who, c)
	}
	if n.parent != nil {
		out = append(out, route.Branch{ID: n.parent.id, Hierarchy: "h", Up: true, Alive: !n.cut})
		who = append(who, n.parent)
	}
	return out, who
}

// visit has a server do what route decides, and returns how many matches lie that way.
func (j *journey) visit(n *node, a route.Arrival) int {
	branches, who := j.branches(n)
	d := route.Decide(n.id, branches, a)
	found := 0
	if d.Search {
		j.searched[n] = true
		found = j.match[n.at]
	}
	for _, o := range d.Outcomes {
		if o.Status != route.Unreachable {
			continue
		}
		for i, b := range branches {
			if b.ID == o.Server && b.Up {
				j.named[n] = true
			} else if b.ID == o.Server {
				j.named[who[i]] = true
			}
		}
	}
	for _, s := range d.Steps {
		b, next := branches[s.Branch], who[s.Branch]
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
		j.count.Down++
		if j.below[next.at] == 0 {
			j.count.DownUseless++
		}
		if !j.paper {
			n.ledgers[next].Note(j.below[next.at] > 0, n.tables[next].AnswersFor(j.question))
		}
	}
	return found
}

// check holds what was found against what is there. Must be found what the servers on the way had been told of; what
// lies behind a link that is down must be named.
func (r *run) check(j *journey, q query, start *node, expected []place) {
	for _, p := range expected {
		n := r.nodes[p.node]
		if j.searched[n] {
			continue
		}
		turn, down, named := r.between(j, start, n)
		switch {
		case down && named, n.services[p.slot].born > turn.horizon[n.at]:
			continue
		case down:
			r.Unnamed++
		default:
			r.Missed++
		}
		if r.First == "" {
			r.First = fmt.Sprintf("seed %d period %d: %v asked at %s: service %d of %s", r.Seed, r.period, q, start.id, p.slot, n.id)
		}
	}
}

// between follows the way from one server to another: turn is where it leads down, down says that a link of it is down,
// named that one of those was named.
func (r *run) between(j *journey, a, b *node) (turn *node, down, named bool) {
	for a != b {
		if a.level < b.level {
			a, b = b, a
		}
		down, named = down || a.cut, named || a.cut && j.named[a]
		a = a.parent
	}
	return a, down, named
}
