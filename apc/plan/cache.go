package plan

import (
	"container/list"
	"context"
	"encoding/json"
	"math"
	"slices"
	"sync"

	"ninja/ca"
	"ninja/operators"
)

// Cache keeps plans, and refusals, by catalogue and request. Catalogues that With made of each other share what the
// change between them cannot have touched. Safe for concurrent use.
type Cache struct {
	mu    sync.Mutex
	size  int
	byKey map[string]*list.Element
	order *list.List // most recent first
	hits  uint64
	asked uint64
}

type cached struct {
	key  string
	cat  *Catalogue
	plan *Plan
	no   *Refusal
}

// NewCache makes a cache of at most size entries; zero is 1024.
func NewCache(size int) *Cache {
	if size <= 0 {
		size = 1024
	}
	return &Cache{size: size, byKey: make(map[string]*list.Element), order: list.New()}
}

// Plan is c.Plan through the cache. view names the set of what the asker may see: catalogues of different views never
// share an entry. Unproven plans are not kept.
func (k *Cache) Plan(ctx context.Context, view string, c *Catalogue, r Request) (*Plan, error) {
	text, err := json.Marshal(r)
	if err != nil { // numbers that are none: Plan says so
		return c.Plan(ctx, r)
	}
	key := view + "\x00" + string(text)
	if p, no := k.find(key, c); p != nil {
		return p, nil
	} else if no != nil {
		return nil, no
	}
	p, err := c.Plan(ctx, r)
	if no, ok := err.(*Refusal); ok && ctx.Err() == nil {
		k.put(&cached{key, c, nil, no})
	} else if err == nil && p.Proven() {
		k.put(&cached{key, c, p, nil})
	}
	return p, err
}

func (k *Cache) find(key string, c *Catalogue) (*Plan, *Refusal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	e, ok := k.byKey[key]
	if !ok {
		return nil, nil
	}
	x := e.Value.(*cached)
	if x.cat != c && !c.keeps(x) {
		return nil, nil
	}
	k.order.MoveToFront(e)
	k.hits++
	return x.plan, x.no
}

// keeps reports whether what was found in an earlier catalogue must still hold: c was made of it by changes that can
// only have made things worse, and none of them to what the plan uses.
func (c *Catalogue) keeps(x *cached) bool {
	for at := c; at != x.cat; at = at.parent {
		if at.parent == nil || !at.worse {
			return false
		}
		if x.plan == nil {
			continue
		}
		for _, s := range x.plan.Steps {
			if slices.Contains(at.touched, s.NodeID) || slices.Contains(at.touched, s.Name) {
				return false
			}
		}
	}
	return true
}

func (k *Cache) put(x *cached) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.byKey[x.key]; ok {
		k.order.Remove(e)
	}
	k.byKey[x.key] = k.order.PushFront(x)
	for k.order.Len() > k.size {
		last := k.order.Back()
		delete(k.byKey, last.Value.(*cached).key)
		k.order.Remove(last)
	}
}

// Counts are how often the cache was asked and how often it had the answer.
func (k *Cache) Counts() (asked, hits uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked, k.hits
}

// Kept are a running path's plan and its alternatives, made ahead so that a repair need not search.
type Kept struct {
	Plan    *Plan
	without map[ca.ID]*Plan
}

// Keep makes the best plan without each of a plan's nodes in turn, but those of the endpoints. What ctx leaves no time
// for is left out.
func (c *Catalogue) Keep(ctx context.Context, r Request, p *Plan) *Kept {
	k := &Kept{Plan: p, without: make(map[ca.ID]*Plan)}
	for _, d := range p.dispensable() {
		if !d.node || ctx.Err() != nil {
			continue
		}
		q := r
		q.Without = append(slices.Clone(r.Without), d.name)
		if alt := c.solveOnly(ctx, q); alt != nil && alt.Proven() {
			k.without[ca.ID(d.name)] = alt
		}
	}
	return k
}

// Replan is the plan to go over to when nodes die: the best one kept that uses none of them; nil when a new search is
// needed.
func (k *Kept) Replan(dead ...ca.ID) *Plan {
	var best *Plan
	for _, p := range k.without {
		if (best == nil || p.Cost < best.Cost || p.Cost == best.Cost && p.key() < best.key()) && !p.uses(dead) {
			best = p
		}
	}
	if !k.Plan.uses(dead) {
		best = k.Plan
	}
	return best
}

func (p *Plan) uses(nodes []ca.ID) bool {
	for _, s := range p.Steps {
		if slices.Contains(nodes, s.Node.ID) {
			return true
		}
	}
	return false
}

// Reprice is what a plan costs in this catalogue, of which it need not come: its present cost beside a better plan, for
// Hysteresis. +Inf says that it does not work any more.
func (c *Catalogue) Reprice(r Request, p *Plan) float64 {
	q, err := newProblem(c, r)
	if err != nil {
		return math.Inf(1)
	}
	c = q.c
	if !c.fitsStill(p) {
		return math.Inf(1)
	}
	cost, used := 0.0, vector{}
	last := -1
	for i, s := range p.Steps {
		op := c.byName.at(s.Name)
		node, ok := c.byID.get(s.Node.ID)
		if !ok || !slices.Contains(c.places[op], int32(node)) {
			return math.Inf(1)
		}
		v := q.stepVector(op, int32(node))
		if !q.allowed[node] || q.banned[op] {
			return math.Inf(1)
		}
		cost, used = cost+q.stepCost(op, int32(node), &v), used.add(v)
		if i > 0 {
			h := &p.Hops[i-1]
			s := slices.Index(c.schemes, h.Transport)
			if s < 0 || c.zones[c.nodeZone[last]].mask&c.zones[c.nodeZone[node]].mask&(1<<s) == 0 {
				return math.Inf(1)
			}
			t := c.transport(s, h.Type.Media())
			if t == nil {
				return math.Inf(1)
			}
			if on := c.onTrunk[t]; on != nil && slices.Contains(c.trunks[int32(node)], int32(last)) {
				a, b := q.hopVector(t, 0, 0), q.hopVector(on, 0, 0)
				if q.w.of(b) < q.w.of(a) {
					t = on
				}
			}
			v := q.hopVector(t, int(c.nodeZone[last]), int(c.nodeZone[node]))
			cost, used = cost+q.w.of(v), used.add(v)
		}
		last = node
	}
	for d, l := range q.lim {
		if used[d] > slack(l) {
			return math.Inf(1)
		}
	}
	return cost
}

// fitsStill reports whether the operators of a plan are there and their types still make the plan's.
func (c *Catalogue) fitsStill(p *Plan) bool {
	var links []operators.Link
	for _, s := range p.Steps {
		op, ok := c.byName.get(s.Name)
		if !ok {
			return false
		}
		links = append(links, c.ops[op].Spec.Link())
	}
	types, err := operators.Unify(links)
	if err != nil {
		return false
	}
	for i, h := range p.Hops {
		if h.Type != types[i] {
			return false
		}
	}
	return true
}
