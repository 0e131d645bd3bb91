package plan

import (
	"maps"
	"math"
	"slices"
)

// maxPins is how many places a requirement may have for its hops to be foreseen.
const maxPins = 16

// netBound is one metric's least cost of the hops that are left, beyond the least that each hop takes anyway.
type netBound struct {
	pins  []int32 // nodes that the path must or may come to: the end's, and those of the requirements with few places
	index map[int32]int
	dist  [][]float64            // by pin and zone: from a node of the zone that is not the pin itself
	byReq [][]int                // pins by requirement; nil for one with too many
	last  []int                  // pins of the end
	memo  map[uint32]([]float64) // by progress: by pin
	zones map[uint32]([]float64) // by progress: by zone
	after []uint32

	coarse map[uint32][]float64 // by progress: by zone, pins or not
}

// leastInZones is the least cost of the hops left from some node of each zone.
func (b *netBound) leastInZones(p *problem, mask uint32) []float64 {
	if v, ok := b.coarse[mask]; ok {
		return v
	}
	v := slices.Clone(b.fromZones(p, mask))
	for i, n := range b.pins {
		z := p.c.nodeZone[n]
		v[z] = min(v[z], b.fromPins(p, mask)[i])
	}
	b.coarse[mask] = v
	return v
}

func (p *problem) netBounds(hops [][][]float64) (out []netBound) {
	proto := netBound{index: make(map[int32]int), byReq: make([][]int, len(p.after)), after: p.after}
	pin := func(n int32) int {
		i, ok := proto.index[n]
		if !ok {
			i = len(proto.pins)
			proto.index[n] = i
			proto.pins = append(proto.pins, n)
		}
		return i
	}
	for _, n := range p.candidates(p.to) {
		proto.last = append(proto.last, pin(n))
	}
	for r := range p.after {
		nodes := make(map[int32]bool)
		for op, meets := range p.meets {
			if meets&(1<<r) == 0 {
				continue
			}
			if len(p.c.places[op]) > 4*maxPins {
				nodes = nil
			}
			if nodes == nil {
				break
			}
			for _, n := range p.candidates(int(op)) {
				nodes[n] = true
			}
		}
		if nodes == nil || len(nodes) > maxPins || len(nodes) == 0 {
			continue
		}
		for _, n := range slices.Sorted(maps.Keys(nodes)) {
			proto.byReq[r] = append(proto.byReq[r], pin(n))
		}
	}
	out = make([]netBound, p.metrics())
	for m := range out {
		nb := proto
		nb.memo, nb.zones = make(map[uint32][]float64), make(map[uint32][]float64)
		beyond := make([][]float64, len(hops[m]))
		for i, row := range hops[m] {
			for _, x := range row {
				beyond[i] = append(beyond[i], x-p.bounds.any[m])
			}
		}
		nb.coarse = make(map[uint32][]float64)
		for _, n := range nb.pins {
			nb.dist = append(nb.dist, zonesTo(beyond, int(p.c.nodeZone[n])))
		}
		out[m] = nb
	}
	return out
}

// cheapestHops is the least that a hop between two nodes of two zones can add to a metric, whatever it carries.
func (p *problem) cheapestHops(metric int) [][]float64 {
	z := len(p.c.zones)
	m := make([][]float64, z)
	for i := range m {
		m[i] = make([]float64, z)
		for j := range m[i] {
			m[i][j] = math.Inf(1)
			for k := range p.c.transports {
				t := &p.c.transports[k]
				s := slices.Index(p.c.schemes, t.Scheme)
				if t.Local || p.c.zones[i].mask&p.c.zones[j].mask&(1<<s) == 0 {
					continue
				}
				v := p.hopVector(t, i, j)
				m[i][j] = min(m[i][j], p.ofMetric(&v, metric))
				if on := p.c.onTrunk[t]; on != nil && p.c.trunkZones[[2]int32{int32(i), int32(j)}] {
					v := p.hopVector(on, i, j)
					m[i][j] = min(m[i][j], p.ofMetric(&v, metric))
				}
			}
		}
	}
	return m
}

// cheapestHop is the least that any hop can add to a metric, between nodes or on one.
func (p *problem) cheapestHop(metric int, between [][]float64) float64 {
	least := math.Inf(1)
	for _, row := range between {
		least = min(least, slices.Min(row))
	}
	for i := range p.c.transports {
		if t := &p.c.transports[i]; t.Local {
			v := p.hopVector(t, 0, 0)
			least = min(least, p.ofMetric(&v, metric))
		}
	}
	if math.IsInf(least, 1) {
		return 0 // nothing joins any steps
	}
	return least
}

// hopVector is what a hop takes.
func (p *problem) hopVector(t *Transport, from, to int) vector {
	v := vector{resLatency: t.Latency.Seconds(), resCPU: t.CPU}
	if !t.Local {
		a, b := p.c.zones[from].region, p.c.zones[to].region
		v[resLatency] += p.c.linkLat[a][b]
		v[resPrice] += p.c.linkPrice[a][b]
	}
	return v
}

// zonesTo is the least way from a node of each zone to another node, which lies in the zone to, by one hop or several.
func zonesTo(hop [][]float64, to int) []float64 {
	n := len(hop)
	dist, done := make([]float64, n), make([]bool, n)
	for i := range n {
		dist[i] = hop[i][to]
	}
	for range n {
		at, best := -1, math.Inf(1)
		for i := range n {
			if !done[i] && dist[i] < best {
				at, best = i, dist[i]
			}
		}
		if at < 0 {
			break
		}
		done[at] = true
		for i := range n {
			dist[i] = min(dist[i], hop[i][at]+best)
		}
	}
	return dist
}

// at is the least cost of the hops left from a node, with some requirements met.
func (b *netBound) at(p *problem, node int32, mask uint32) float64 {
	if i, ok := b.index[node]; ok {
		return b.fromPins(p, mask)[i]
	}
	return b.fromZones(p, mask)[p.c.nodeZone[node]]
}

// targets calls f with each pin that may come next, and what is left from there; rest is nil at the end.
func (b *netBound) targets(mask uint32, f func(pin int, next uint32, end bool)) {
	left := false
	for r, pins := range b.byReq {
		if pins == nil || mask&(1<<r) != 0 {
			continue
		}
		left = true
		if !b.ready(r, mask) {
			continue
		}
		for _, q := range pins {
			f(q, mask|1<<r, false)
		}
	}
	if !left {
		for _, q := range b.last {
			f(q, mask, true)
		}
	}
}

// ready reports whether all that must come before a requirement, and that pins speak for, has been met.
func (b *netBound) ready(r int, mask uint32) bool {
	for a := range b.after {
		if b.after[r]&(1<<a) != 0 && b.byReq[a] != nil && mask&(1<<a) == 0 {
			return false
		}
	}
	return true
}

func (b *netBound) fromPins(p *problem, mask uint32) []float64 {
	if v, ok := b.memo[mask]; ok {
		return v
	}
	out := make([]float64, len(b.pins))
	for i := range out {
		out[i] = math.Inf(1)
		zone := p.c.nodeZone[b.pins[i]]
		b.targets(mask, func(q int, next uint32, end bool) {
			d := 0.0
			if q != i {
				d = b.dist[q][zone]
			}
			if !end {
				d += b.fromPins(p, next)[q]
			}
			out[i] = min(out[i], d)
		})
	}
	b.memo[mask] = out
	return out
}

func (b *netBound) fromZones(p *problem, mask uint32) []float64 {
	if v, ok := b.zones[mask]; ok {
		return v
	}
	out := make([]float64, len(p.c.zones))
	for z := range out {
		out[z] = math.Inf(1)
		b.targets(mask, func(q int, next uint32, end bool) {
			d := b.dist[q][z]
			if !end {
				d += b.fromPins(p, next)[q]
			}
			out[z] = min(out[z], d)
		})
	}
	b.zones[mask] = out
	return out
}
