package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
)

func (c *Catalogue) addTransports() error {
	c.transports, c.onTrunk = slices.Clone(c.transports), make(map[*Transport]*Transport)
	for i, t := range c.transports {
		if k := t.Trunk; k != nil && !t.Local {
			if k.Latency < 0 || !proper(k.CPU) {
				return fmt.Errorf("transport %q: want costs on a trunk that are finite and not negative", t.Scheme)
			}
			c.onTrunk[&c.transports[i]] = &Transport{Scheme: t.Scheme, Media: t.Media, Latency: k.Latency, CPU: k.CPU}
		}
		if t.Scheme == "" || t.Latency < 0 || !proper(t.CPU) {
			return fmt.Errorf("transport %q: want a scheme, and costs that are finite and not negative", t.Scheme)
		}
		s := slices.Index(c.schemes, t.Scheme)
		if s < 0 {
			s = len(c.schemes)
			c.schemes = append(c.schemes, t.Scheme)
		}
		if t.Local {
			c.local |= 1 << s
		}
		if t.Loses && !connectors.BearsLoss(t.Media) {
			c.asked |= 1 << s
		}
	}
	if len(c.schemes) > 32 {
		return fmt.Errorf("%d schemes: at most 32 are allowed", len(c.schemes))
	}
	return nil
}

// mask is the set of schemes; none named is all of them.
func (c *Catalogue) mask(schemes []string) uint32 {
	if len(schemes) == 0 {
		return 1<<len(c.schemes) - 1
	}
	var m uint32
	for i, s := range c.schemes {
		if slices.Contains(schemes, s) {
			m |= 1 << i
		}
	}
	return m
}

// reached is the set of schemes that an operator can be reached by: none named is all of them but those that it would
// have to name.
func (c *Catalogue) reached(s *operators.Spec) uint32 {
	if len(s.Transports) == 0 {
		return c.mask(nil) &^ c.asked
	}
	return c.mask(s.Transports)
}

func (c *Catalogue) addNodes(nodes []Node, links []Link) error {
	c.nodes, c.byID = slices.Clone(nodes), newNames[ca.ID](len(nodes))
	for i := range c.nodes {
		n := &c.nodes[i]
		if _, taken := c.byID.get(n.ID); taken || n.ID == "" {
			return fmt.Errorf("node %q stands there twice, or has no ID", n.ID)
		}
		if err := n.check(); err != nil {
			return err
		}
		c.byID.base[n.ID] = i
		c.nodeZone = append(c.nodeZone, c.zoneOf(n))
	}
	for _, l := range links {
		if l.Latency < 0 || !proper(l.Price) {
			return fmt.Errorf("link %s to %s: latency %v, price %v: want finite numbers that are not negative", l.From, l.To, l.Latency, l.Price)
		}
	}
	c.closeLinks(links)
	return nil
}

// addTrunks notes which nodes trunks join, each once and both ways.
func (c *Catalogue) addTrunks(trunks []Trunk) {
	c.trunks, c.trunkZones = make(map[int32][]int32), make(map[[2]int32]bool)
	add := func(a, b int32) {
		if !slices.Contains(c.trunks[a], b) {
			c.trunks[a] = append(c.trunks[a], b)
			c.trunkZones[[2]int32{c.nodeZone[a], c.nodeZone[b]}] = true
		}
	}
	for _, t := range trunks {
		a, ok := c.byID.get(t.From)
		b, also := c.byID.get(t.To)
		if ok && also && a != b {
			add(int32(a), int32(b))
			add(int32(b), int32(a))
		}
	}
}

func (n *Node) check() error {
	if !proper(n.Load) || !proper(n.Cores) || n.Memory < 0 {
		return fmt.Errorf("node %s: load %v, cores %v, memory %d: want finite numbers that are not negative", n.ID, n.Load, n.Cores, n.Memory)
	}
	return nil
}

// zoneOf is the zone of a node, a new one when there is none like it. Every node joins its own steps by memory, whatever it
// speaks to others.
func (c *Catalogue) zoneOf(n *Node) int32 {
	region := slices.Index(c.regions, n.Region)
	if region < 0 {
		region = len(c.regions)
		c.regions = append(c.regions, n.Region)
	}
	z := zone{region, c.mask(n.Transports) | c.local}
	i := slices.Index(c.zones, z)
	if i < 0 {
		i = len(c.zones)
		c.zones = append(c.zones, z)
	}
	return int32(i)
}

// defaults are the latencies between and within regions of which nothing is known, in seconds.
func (p *Parts) defaults() (far, near float64) {
	if far = p.Far.Seconds(); far == 0 {
		far = 0.020
	}
	if near = p.Near.Seconds(); near == 0 {
		near = 0.001
	}
	return far, near
}

// closeLinks makes the matrices of latency and price between regions, closed under shortest paths each by itself: an
// overlay may relay, and the bounds of the search lean on the triangle inequality.
func (c *Catalogue) closeLinks(links []Link) {
	far, near := c.parts.defaults()
	n := len(c.regions)
	c.linkLat, c.linkPrice = make([][]float64, n), make([][]float64, n)
	for i := range n {
		c.linkLat[i], c.linkPrice[i] = make([]float64, n), make([]float64, n)
		for j := range n {
			c.linkLat[i][j] = far
			if i == j {
				c.linkLat[i][j] = near
			}
		}
	}
	for _, l := range links {
		i, j := slices.Index(c.regions, l.From), slices.Index(c.regions, l.To)
		if i >= 0 && j >= 0 {
			c.linkLat[i][j], c.linkLat[j][i] = l.Latency.Seconds(), l.Latency.Seconds()
			c.linkPrice[i][j], c.linkPrice[j][i] = l.Price, l.Price
		}
	}
	for _, m := range [][][]float64{c.linkLat, c.linkPrice} {
		for k := range n {
			for i := range n {
				for j := range n {
					m[i][j] = min(m[i][j], m[i][k]+m[k][j])
				}
			}
		}
	}
}

func (c *Catalogue) addOperators(ops []Operator) error {
	c.ops, c.byName = make([]*Operator, len(ops)), newNames[string](len(ops))
	all := slices.Clone(ops)
	c.places, c.sig = make([][]int32, len(ops)), make([]int32, len(ops))
	c.base = make([]vector, len(ops))
	c.opMask, c.override = make([]uint32, len(ops)), make([]map[int32]operators.Cost, len(ops))
	c.sigOf = newNames[[2]string](len(ops) / 8)
	c.lists = make(map[uint64][]int32)
	made := make(map[*Place][]int32) // lists by the slices they were made of, when no place there has a cost of its own
	for i := range c.ops {
		c.ops[i] = &all[i]
		o := c.ops[i]
		if _, taken := c.byName.get(o.Name); taken || o.Name == "" {
			return fmt.Errorf("operator %q stands there twice, or has no name", o.Name)
		}
		c.byName.base[o.Name] = i
		if err := o.check(); err != nil {
			return err
		}
		if len(o.Places) > 0 && len(made[&o.Places[0]]) == len(o.Places) {
			c.places[i] = made[&o.Places[0]]
		} else {
			h, err := c.addPlaces(i)
			if err != nil {
				return err
			}
			list := c.places[i]
			if _, taken := c.lists[h]; !taken && len(list) > 0 {
				c.lists[h] = list
			}
			if len(o.Places) == len(list) && len(list) > 0 && c.override[i] == nil {
				made[&o.Places[0]] = list
			}
		}
		s, ok := c.sigOf.get(o.signature())
		if !ok {
			s = len(c.sigs)
			c.sigOf.base[o.signature()] = s
			c.sigs = append(c.sigs, signature{o.Spec.In, o.Spec.Out})
		}
		c.sig[i], c.opMask[i], c.base[i] = int32(s), c.reached(&o.Spec), costVector(o.Spec.Cost, o.Fixed)
	}
	return nil
}

func (o *Operator) check() error {
	if o.Spec.In.IsZero() && o.Spec.Out.IsZero() {
		return fmt.Errorf("operator %s has neither input nor output", o.Name)
	}
	if err := checkCost(o.Spec.Cost); err != nil {
		return fmt.Errorf("operator %s: %w", o.Name, err)
	}
	return nil
}

func (o *Operator) signature() [2]string { return [2]string{o.Spec.In.String(), o.Spec.Out.String()} }

// addPlaces indexes an operator's places. Lists that are equal are one: hash is that under which they are kept.
func (c *Catalogue) addPlaces(i int) (hash uint64, err error) {
	o := c.ops[i]
	list := make([]int32, 0, len(o.Places))
	for _, p := range o.Places {
		n, ok := c.byID.get(p.Node)
		if !ok {
			return 0, fmt.Errorf("operator %s: place %s: no such node", o.Name, p.Node)
		}
		if p.Cost != nil {
			if err := checkCost(*p.Cost); err != nil {
				return 0, fmt.Errorf("operator %s at %s: %w", o.Name, p.Node, err)
			}
			if c.override[i] == nil {
				c.override[i] = make(map[int32]operators.Cost)
			}
			c.override[i][int32(n)] = *p.Cost
		}
		list = append(list, int32(n))
	}
	slices.Sort(list)
	list = slices.Compact(list)
	hash = hashOf(list)
	if same := c.lists[hash]; slices.Equal(same, list) && len(list) > 0 {
		list = same
	}
	c.places[i] = list
	return hash, nil
}

func hashOf(list []int32) (h uint64) {
	for _, n := range list {
		h = mix(h + uint64(n) + 1)
	}
	return h
}

func checkCost(k operators.Cost) error {
	if !proper(k.CPU) || !proper(k.Price) || k.Latency < 0 || k.Memory < 0 || !(k.Quality >= 0 && k.Quality <= 1) {
		return fmt.Errorf("cost cpu %v, latency %v, memory %d, price %v, quality %v: want finite numbers that are not negative, quality at most 1",
			k.CPU, time.Duration(k.Latency), k.Memory, k.Price, k.Quality)
	}
	return nil
}

// proper reports whether a number can be a cost.
func proper(f float64) bool { return f >= 0 && !math.IsInf(f, 0) }

// transport is the entry for a scheme and media type, or nil when the scheme does not carry it.
func (c *Catalogue) transport(scheme int, media string) *Transport {
	var best *Transport
	for i := range c.transports {
		t := &c.transports[i]
		if t.Scheme == c.schemes[scheme] && strings.HasPrefix(media, t.Media) && (best == nil || len(t.Media) > len(best.Media)) {
			best = t
		}
	}
	return best
}
