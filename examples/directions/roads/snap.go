package roads

import (
	"math"
	"slices"
)

// Spot is a place on a road.
type Spot struct {
	// At is the place on the road, Metres its distance from the place that was asked for.
	At     Point
	Metres float64

	arc   int32   // a direction that may be driven
	along float64 // share of the link, from its beginning, 0 to 1
}

// grid finds links by place: square cells, each with the links whose box touches it, all in two arrays.
type grid struct {
	min          Point
	rows, cols   int32
	first, links []int32
}

const cell = 50_000 // 0.005 degrees, some 500 m

// maxCells bounds the grid of a map whose few points lie far apart; its cells are as many as links at most, or this.
const maxCells = 4 << 20

func newGrid(g *Graph) grid {
	lo, hi := g.shape[0], g.shape[0]
	for _, p := range g.shape {
		lo = Point{min(lo.Lat, p.Lat), min(lo.Lon, p.Lon)}
		hi = Point{max(hi.Lat, p.Lat), max(hi.Lon, p.Lon)}
	}
	r := grid{min: lo, rows: (hi.Lat-lo.Lat)/cell + 1, cols: int32((int64(hi.Lon)-int64(lo.Lon))/cell) + 1}
	for int64(r.rows)*int64(r.cols) > maxCells { // far-flung: clamp, so that the outer cells hold more
		r.rows, r.cols = (r.rows+1)/2, (r.cols+1)/2
	}
	r.first = make([]int32, r.rows*r.cols+1)
	each := func(f func(cell, link int32)) {
		for i, l := range g.links {
			p := g.shape[l.first:l.end]
			r0, c0 := r.cellOf(p[0])
			r1, c1 := r0, c0
			for _, q := range p[1:] {
				row, col := r.cellOf(q)
				r0, r1, c0, c1 = min(r0, row), max(r1, row), min(c0, col), max(c1, col)
			}
			for row := r0; row <= r1; row++ {
				for col := c0; col <= c1; col++ {
					f(row*r.cols+col, int32(i))
				}
			}
		}
	}
	each(func(c, _ int32) { r.first[c+1]++ })
	for i := range r.rows * r.cols {
		r.first[i+1] += r.first[i]
	}
	r.links = make([]int32, r.first[r.rows*r.cols])
	next := slices.Clone(r.first)
	each(func(c, l int32) { r.links[next[c]] = l; next[c]++ })
	return r
}

func (r *grid) cellOf(p Point) (row, col int32) {
	row = int32((int64(p.Lat) - int64(r.min.Lat)) / cell)
	col = int32((int64(p.Lon) - int64(r.min.Lon)) / cell)
	return clamp(row, 0, r.rows-1), clamp(col, 0, r.cols-1)
}

// near calls f for the links in the cells around p, rings of cells outwards as far as within metres.
func (r *grid) near(p Point, within float64, f func(link int32)) {
	rings := int32(within/400) + 1 // a cell is at least 400 m wide up to 43 degrees north; farther north rings are narrower, so add
	if lat := math.Abs(float64(p.Lat)) * 1e-7; lat > 40 {
		rings = int32(within/(556*math.Cos(min(lat, 85)*math.Pi/180))) + 1
	}
	row, col := r.cellOf(p)
	for i := max(0, row-rings); i <= min(r.rows-1, row+rings); i++ {
		for j := max(0, col-rings); j <= min(r.cols-1, col+rings); j++ {
			c := i*r.cols + j
			for _, l := range r.links[r.first[c]:r.first[c+1]] {
				f(l)
			}
		}
	}
}

// Snap finds the nearest place on a road within the distance that can be reached from most of the map. When key is not
// empty and a street of that key (spoken.Key) is not much farther than another, it is preferred.
func (g *Graph) Snap(p Point, within float64, key string) (Spot, bool) {
	best, bestCost := Spot{}, math.Inf(1)
	g.grid.near(p, within, func(i int32) {
		l := &g.links[i]
		if !g.main[l.from] || !g.main[l.to] {
			return
		}
		at, along, metres := g.nearest(l, p)
		if metres > within {
			return
		}
		cost := metres
		k := &g.kinds[l.kind]
		if key != "" && g.streets[k.street].key != key {
			cost += 150
		}
		if k.service || k.link {
			cost += 30
		}
		if cost < bestCost {
			arc := 2 * i
			if !g.allowed(arc) {
				arc++
			}
			best, bestCost = Spot{at, metres, arc, along}, cost
		}
	})
	return best, !math.IsInf(bestCost, 1)
}

// nearest is the point of a link that is nearest to p.
func (g *Graph) nearest(l *link, p Point) (at Point, along, metres float64) {
	pts := g.shape[l.first:l.end]
	metres = math.Inf(1)
	run := 0.0
	for i := 1; i < len(pts); i++ {
		a, b := pts[i-1], pts[i]
		t, away := project(p, a, b)
		piece := Metres(a, b)
		if away < metres {
			metres, along = away, run+t*piece
			at = Point{a.Lat + int32(t*float64(b.Lat-a.Lat)), a.Lon + int32(t*float64(b.Lon-a.Lon))}
		}
		run += piece
	}
	if run > 0 {
		along /= run
	}
	return at, clamp(along, 0, 1), metres
}

// project finds the share t of the way from a to b that is nearest to p, and how far it is from p in metres.
func project(p, a, b Point) (t, metres float64) {
	ax, ay := offset(p, a)
	bx, by := offset(p, b)
	dx, dy := bx-ax, by-ay
	if q := dx*dx + dy*dy; q > 0 {
		t = clamp(-(ax*dx+ay*dy)/q, 0, 1)
	}
	return t, math.Hypot(ax+t*dx, ay+t*dy)
}
