package plan

import (
	"slices"

	"ninja/ca"
)

// maxAmended bounds the things put that are indexed by themselves: with very many of them indexing all anew is as quick.
const maxAmended = 1024

// amendable reports whether a change only puts operators, and nodes that are new in a region that is known or change
// their numbers alone.
func (c *Catalogue) amendable(ch Change) bool {
	if len(ch.GoneNodes)+len(ch.GoneOperators) > 0 || len(ch.Operators)+len(ch.Nodes) > maxAmended {
		return false
	}
	for _, n := range ch.Nodes {
		if i, ok := c.byID.get(n.ID); ok && (c.nodes[i].Region != n.Region || !slices.Equal(c.nodes[i].Transports, n.Transports)) {
			return false
		}
		if !slices.Contains(c.regions, n.Region) {
			return false
		}
	}
	return true
}

// amend is the catalogue with things put. Besides copying lists of pointers and numbers it costs what the change is large.
func (c *Catalogue) amend(ch Change) (*Catalogue, error) {
	next := *c
	next.tables, next.now = c.prepare().next(), &numbers{}
	if err := next.putNodes(ch.Nodes); err != nil {
		return nil, err
	}
	if err := next.putOperators(ch.Operators); err != nil {
		return nil, err
	}
	return &next, nil
}

func (c *Catalogue) putNodes(nodes []Node) error {
	if len(nodes) == 0 {
		return nil
	}
	t, put := c.tables, make(map[ca.ID]int)
	c.nodes, c.nodeZone = slices.Clone(c.nodes), slices.Clone(c.nodeZone)
	c.regions, c.zones = slices.Clip(c.regions), slices.Clip(c.zones)
	for _, n := range nodes {
		if err := n.check(); err != nil {
			return err
		}
		if i, ok := c.byID.get(n.ID); ok {
			c.nodes[i] = n
			continue
		}
		if i, ok := put[n.ID]; ok {
			c.nodes[i] = n
			continue
		}
		put[n.ID] = len(c.nodes)
		c.nodes, c.nodeZone = append(c.nodes, n), append(c.nodeZone, c.zoneOf(&n))
		t.class, t.special = append(t.class, t.classes), append(t.special, false)
		t.classes++
	}
	c.byID = c.byID.with(put)
	c.widen()
	return nil
}

// widen makes room for new regions in the matrices: each is far from all others, and nothing is relayed there.
func (c *Catalogue) widen() {
	was, n := len(c.linkLat), len(c.regions)
	if was == n {
		return
	}
	far, near := c.parts.defaults()
	grow := func(m [][]float64, far, near float64) [][]float64 {
		out := make([][]float64, n)
		for i := range out {
			out[i] = slices.Repeat([]float64{far}, n)
			if i < was {
				copy(out[i], m[i])
			} else {
				out[i][i] = near
			}
		}
		return out
	}
	c.linkLat, c.linkPrice = grow(c.linkLat, far, near), grow(c.linkPrice, 0, 0)
}

func (c *Catalogue) putOperators(ops []Operator) error {
	t := c.tables
	c.ops, c.places, c.sig, c.base = slices.Clone(c.ops), slices.Clone(c.places), slices.Clone(c.sig), slices.Clone(c.base)
	c.opMask, c.override, c.sigs = slices.Clone(c.opMask), slices.Clone(c.override), slices.Clip(c.sigs)
	put := make(map[string]int)
	for i := range ops {
		o := ops[i]
		if err := o.check(); err != nil {
			return err
		}
		at, known := c.byName.get(o.Name)
		if !known {
			at, known = put[o.Name]
		}
		if !known {
			at = len(c.ops)
			put[o.Name] = at
			c.ops, c.places, c.sig, c.base = append(c.ops, nil), append(c.places, nil), append(c.sig, -1), append(c.base, vector{})
			c.opMask, c.override = append(c.opMask, 0), append(c.override, nil)
		}
		before := c.places[at]
		c.ops[at], c.override[at] = &o, nil
		hash, err := c.addPlaces(at)
		if err != nil {
			return err
		}
		if slices.Equal(before, c.places[at]) && len(before) > 0 {
			c.places[at] = before
		} else if list := c.places[at]; len(list) > 0 && !sameList(c.lists[hash], list) {
			t.split(list)
		}
		c.setSignature(at, c.putSignature(&o))
		c.opMask[at], c.base[at] = c.reached(&o.Spec), costVector(o.Spec.Cost, o.Fixed)
		c.markSpecial(at)
	}
	c.byName = c.byName.with(put)
	return nil
}

func sameList(a, b []int32) bool { return len(a) > 0 && len(b) > 0 && &a[0] == &b[0] }

// putSignature is the number of an operator's signature.
func (c *Catalogue) putSignature(o *Operator) int32 {
	key := o.signature()
	if s, ok := c.sigOf.get(key); ok {
		return int32(s)
	}
	s := len(c.sigs)
	c.sigs = append(c.sigs, signature{o.Spec.In, o.Spec.Out})
	c.sigOf = c.sigOf.with(map[[2]string]int{key: s})
	c.tables.add(c, c.sigs[s])
	return int32(s)
}

func (c *Catalogue) setSignature(op int, s int32) {
	t, was := c.tables, c.sig[op]
	if was == s {
		return
	}
	if was >= 0 {
		t.opsOf[was] = slices.DeleteFunc(slices.Clone(t.opsOf[was]), func(o int32) bool { return o == int32(op) })
	}
	c.sig[op], t.opsOf[s] = s, push(t, t.opsOf[s], int32(op))
}

// split puts the nodes of a list into classes of their own: what they run is not what others of their class run.
func (t *tables) split(list []int32) {
	to := make(map[int32]int32)
	for _, n := range list {
		id, ok := to[t.class[n]]
		if !ok {
			id = t.classes
			t.classes++
			to[t.class[n]] = id
		}
		t.class[n] = id
	}
}

// markSpecial notes the nodes at which an operator differs from what it is elsewhere.
func (c *Catalogue) markSpecial(op int) {
	for n := range c.override[op] {
		c.tables.special[n] = true
	}
	for _, ref := range c.ops[op].Data {
		for n := range c.holders[ref] {
			c.tables.special[n] = true
		}
	}
}
