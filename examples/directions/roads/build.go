// Package roads is a street network for driving: built from OpenStreetMap ways, held in a few flat arrays, searched for
// the fastest way by A*, and turned into the manoeuvres that a person would be told.
package roads

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"ninja/examples/directions/pbf"
	"ninja/examples/directions/spoken"
)

// Point is a place in units of 1e-7 degrees.
type Point struct{ Lat, Lon int32 }

// Builder collects ways, then the places of their nodes.
type Builder struct {
	// MaxRefs bounds the points of all ways; zero is 100 million (about 2 GB while building).
	MaxRefs int

	ways  []way
	refs  []int64 // node ids of all ways, one after the other
	names map[string]int32
	table []Street
	ids   []int64 // all nodes of the ways, sorted; from Nodes on
	at    []Point
	known []bool
}

type way struct {
	first, end int32 // in refs
	kind       kind
}

// kind is what pieces of road have in common.
type kind struct {
	street     int32 // in table
	speed      uint8 // km/h that is driven, all in all
	oneway     int8  // 1: along the way, -1: against it, 0: both
	roundabout bool
	link       bool // a ramp or a link between roads
	service    bool // a driveway, an alley
}

// Street is what a piece of road is called.
type Street struct {
	// Name is the street's name, Ref its number ("US 40"), Toward what the signs of a ramp say, Exit the ramp's number.
	Name        spoken.Name
	Ref         string
	Toward      string
	Exit        string
	key, refKey string
	refs        []string
}

// goesOn reports whether a driver who follows the road s and comes to t is still on it: both have a number in common,
// or names that differ in the compass direction alone ("North" and "South Pennsylvania Avenue").
func (s *Street) goesOn(t *Street) bool {
	for _, r := range s.refs {
		if slices.Contains(t.refs, r) {
			return true
		}
	}
	return s.key != "" && spoken.WithoutCompass(s.key) == spoken.WithoutCompass(t.key)
}

// Way takes a way of the map; those that cannot be driven on are ignored.
func (b *Builder) Way(w *pbf.Way) error {
	k, ok := b.classify(w.Tags)
	if !ok || len(w.Refs) < 2 {
		return nil
	}
	limit := b.MaxRefs
	if limit == 0 {
		limit = 100_000_000
	}
	if len(b.refs)+len(w.Refs) > limit {
		return fmt.Errorf("the map's roads have more than %d points: cut a smaller extract", limit)
	}
	first := int32(len(b.refs))
	b.refs = append(b.refs, w.Refs...)
	b.ways = append(b.ways, way{first, int32(len(b.refs)), k})
	return nil
}

// speeds are what one drives on the kinds of road when no limit is given, in km/h, and whether the road is a link.
var speeds = map[string]struct {
	speed float64
	link  bool
}{
	"motorway": {105, false}, "trunk": {85, false}, "primary": {65, false}, "secondary": {60, false}, "tertiary": {55, false},
	"unclassified": {45, false}, "residential": {40, false}, "living_street": {15, false}, "road": {40, false},
	"motorway_link": {65, true}, "trunk_link": {55, true}, "primary_link": {45, true}, "secondary_link": {45, true},
	"tertiary_link": {40, true}, "service": {20, false},
}

func (b *Builder) classify(t pbf.Tags) (k kind, ok bool) {
	highway := t.Get("highway")
	class, ok := speeds[highway]
	if !ok || t.Get("area") == "yes" {
		return kind{}, false
	}
	for _, key := range []string{"access", "vehicle", "motor_vehicle", "motorcar"} {
		if v := t.Get(key); v == "no" || v == "private" || v == "agricultural" || v == "forestry" {
			return kind{}, false
		}
	}
	speed := class.speed
	if limit := parseSpeed(t.Get("maxspeed")); limit > 0 {
		speed = limit
		if highway != "motorway" {
			speed *= 0.85 // junctions, lights, bends
		}
	}
	k = kind{link: class.link, service: highway == "service", speed: uint8(min(max(speed, 5), 130))}
	junction := t.Get("junction")
	k.roundabout = junction == "roundabout" || junction == "circular"
	switch oneway := t.Get("oneway"); {
	case oneway == "yes" || oneway == "true" || oneway == "1":
		k.oneway = 1
	case oneway == "-1" || oneway == "reverse":
		k.oneway = -1
	case oneway == "" && (k.roundabout || highway == "motorway" || highway == "motorway_link"):
		k.oneway = 1
	}
	k.street = b.street(t, class.link)
	return k, true
}

// parseSpeed reads "35 mph" or "50"; 0 is unknown.
func parseSpeed(s string) float64 {
	var v float64
	var unit string
	if n, _ := fmt.Sscanf(s, "%f %s", &v, &unit); n == 0 || v <= 0 || v > 200 {
		return 0
	}
	if unit == "mph" {
		return v * 1.609344
	}
	return v
}

func (b *Builder) street(t pbf.Tags, link bool) int32 {
	name, ref, toward, exit := t.Get("name"), t.Get("ref"), "", ""
	if link {
		toward, exit = t.Get("destination"), t.Get("junction:ref")
		if toward == "" {
			toward = t.Get("destination:ref")
		}
	}
	all := strings.Join([]string{name, ref, toward, exit}, "\x00")
	if i, ok := b.names[all]; ok {
		return i
	}
	if b.names == nil {
		b.names = make(map[string]int32)
	}
	s := Street{Name: spoken.ParseName(name), Ref: first(ref), Toward: first(toward), Exit: first(exit)}
	for r := range strings.SplitSeq(strings.ToLower(ref), ";") {
		if r = strings.TrimSpace(r); r != "" && len(s.refs) < 8 {
			s.refs = append(s.refs, strings.Clone(r))
		}
	}
	s.key, s.refKey = s.Name.Key(), strings.ToLower(s.Ref)
	i := int32(len(b.table))
	b.table, b.names[all] = append(b.table, s), i
	return i
}

// first is the first of several values in one tag.
func first(s string) string {
	if i := strings.IndexAny(s, ";,/"); i >= 0 {
		s = s[:i]
	}
	return strings.Clone(strings.TrimSpace(s))
}

// Nodes ends the ways; after it Node may be called.
func (b *Builder) Nodes() {
	b.ids = slices.Clone(b.refs)
	slices.Sort(b.ids)
	b.ids = slices.Compact(b.ids)
	b.at, b.known = make([]Point, len(b.ids)), make([]bool, len(b.ids))
}

// Node takes a node of the map; those of no road are ignored.
func (b *Builder) Node(n *pbf.Node) error {
	if i, ok := slices.BinarySearch(b.ids, n.ID); ok {
		b.at[i], b.known[i] = Point{n.Lat, n.Lon}, true
	}
	return nil
}

// Graph is the network. A vertex is a place where roads meet or end; a link is a piece of road between two vertices; an
// arc is a link in one direction: 2*link forward, 2*link+1 backward. It is read only and may be shared.
type Graph struct {
	vertices []Point
	links    []link
	shape    []Point // the links' points, first and last vertex included
	kinds    []kind
	streets  []Street
	outFirst []int32 // per vertex, its first place in out; one more at the end
	out      []int32 // arcs
	grid     grid
	main     []bool // per vertex: it reaches and is reached from most of the map
	fastest  float64
}

type link struct {
	from, to   int32 // vertices
	first, end int32 // in shape
	kind       int32
	metres     float32
	leave      float32 // the bearing in which it begins
	enter      float32 // the bearing in which it ends
}

// Graph builds the network of what was collected; the builder is spent.
func (b *Builder) Graph() (*Graph, error) {
	index := b.index()
	uses := make([]uint8, len(b.ids))
	for _, w := range b.ways {
		for i := w.first; i < w.end; i++ {
			n := uint8(1)
			if i == w.first || i == w.end-1 {
				n = 2
			}
			uses[index[i]] = min(uses[index[i]]+n, 2)
		}
	}
	g := &Graph{streets: b.table}
	vertex := make([]int32, len(b.ids))
	for i := range vertex {
		vertex[i] = -1
		if uses[i] >= 2 && b.known[i] {
			vertex[i] = int32(len(g.vertices))
			g.vertices = append(g.vertices, b.at[i])
		}
	}
	kinds := make(map[kind]int32)
	for _, w := range b.ways {
		k, ok := kinds[w.kind]
		if !ok {
			k = int32(len(g.kinds))
			g.kinds, kinds[w.kind] = append(g.kinds, w.kind), k
		}
		b.split(g, index[w.first:w.end], vertex, k)
	}
	*b = Builder{}
	if len(g.links) == 0 {
		return nil, fmt.Errorf("the map has no road that can be driven on")
	}
	g.connect()
	g.main = g.mainland()
	g.grid = newGrid(g)
	return g, nil
}

// index turns every ref into the place of its node.
func (b *Builder) index() []int32 {
	index := make([]int32, len(b.refs))
	for i, id := range b.refs {
		at, _ := slices.BinarySearch(b.ids, id)
		index[i] = int32(at)
	}
	return index
}

// split cuts a way at its vertices into links; where nodes are missing (the edge of an extract) it is interrupted.
func (b *Builder) split(g *Graph, nodes []int32, vertex []int32, k int32) {
	start := -1
	for i, n := range nodes {
		if !b.known[n] {
			start = -1
			continue
		}
		if vertex[n] < 0 {
			continue
		}
		if start >= 0 && i > start {
			first := int32(len(g.shape))
			for _, m := range nodes[start : i+1] {
				g.shape = append(g.shape, b.at[m])
			}
			l := link{from: vertex[nodes[start]], to: vertex[n], first: first, end: int32(len(g.shape)), kind: k}
			l.measure(g.shape[l.first:l.end])
			g.links = append(g.links, l)
		}
		start = i
	}
}

// look is how far one looks along a road to say where it goes, in metres.
const look = 25

func (l *link) measure(pts []Point) {
	l.metres = float32(length(pts))
	last := len(pts) - 1
	i, j := 1, last-1
	for i < last && Metres(pts[0], pts[i]) < look {
		i++
	}
	for j > 0 && Metres(pts[last], pts[j]) < look {
		j--
	}
	l.leave, l.enter = float32(bearing(pts[0], pts[i])), float32(bearing(pts[j], pts[last]))
}

// connect fills the lists of arcs that leave each vertex.
func (g *Graph) connect() {
	g.outFirst = make([]int32, len(g.vertices)+1)
	each := func(f func(v, arc int32)) {
		for i, l := range g.links {
			oneway := g.kinds[l.kind].oneway
			if oneway >= 0 {
				f(l.from, int32(2*i))
			}
			if oneway <= 0 {
				f(l.to, int32(2*i+1))
			}
		}
	}
	each(func(v, _ int32) { g.outFirst[v+1]++ })
	for i := range g.vertices {
		g.outFirst[i+1] += g.outFirst[i]
	}
	g.out = make([]int32, g.outFirst[len(g.vertices)])
	next := slices.Clone(g.outFirst)
	each(func(v, arc int32) { g.out[next[v]] = arc; next[v]++ })
	for _, k := range g.kinds {
		g.fastest = max(g.fastest, float64(k.speed)/3.6)
	}
}

// Stats says how large the network is.
func (g *Graph) Stats() (vertices, links, arcs int) {
	return len(g.vertices), len(g.links), len(g.out)
}

func (g *Graph) head(arc int32) int32 {
	if l := &g.links[arc>>1]; arc&1 == 0 {
		return l.to
	} else {
		return l.from
	}
}

func (g *Graph) tail(arc int32) int32 { return g.head(arc ^ 1) }

func (g *Graph) leaving(v int32) []int32 { return g.out[g.outFirst[v]:g.outFirst[v+1]] }

func (g *Graph) kindOf(arc int32) *kind { return &g.kinds[g.links[arc>>1].kind] }

// allowed reports whether an arc may be driven.
func (g *Graph) allowed(arc int32) bool {
	o := g.kindOf(arc).oneway
	return o == 0 || (o > 0) == (arc&1 == 0)
}

// seconds is the time to drive a whole arc.
func (g *Graph) seconds(arc int32) float64 {
	return float64(g.links[arc>>1].metres) / (float64(g.kindOf(arc).speed) / 3.6)
}

// mainland finds the largest set of vertices that all reach each other (Tarjan's strongly connected components, without
// recursion).
func (g *Graph) mainland() []bool {
	n := len(g.vertices)
	order, low, comp := make([]int32, n), make([]int32, n), make([]int32, n)
	at := slices.Clone(g.outFirst[:n])
	var stack, path []int32
	var sizes []int
	clock := int32(0)
	for root := range n {
		if order[root] != 0 {
			continue
		}
		path = append(path[:0], int32(root))
		for len(path) > 0 {
			v := path[len(path)-1]
			if order[v] == 0 {
				clock++
				order[v], low[v] = clock, clock
				stack = append(stack, v)
			}
			if at[v] < g.outFirst[v+1] {
				w := g.head(g.out[at[v]])
				at[v]++
				if order[w] == 0 {
					path = append(path, w)
				} else if comp[w] == 0 {
					low[v] = min(low[v], order[w])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				up := path[len(path)-1]
				low[up] = min(low[up], low[v])
			}
			if low[v] == order[v] {
				size := 0
				for done := false; !done; size++ {
					w := stack[len(stack)-1]
					stack = stack[:len(stack)-1]
					comp[w], done = int32(len(sizes)+1), w == v
				}
				sizes = append(sizes, size)
			}
		}
	}
	largest := int32(slices.Index(sizes, slices.Max(sizes)) + 1)
	main := make([]bool, n)
	for v := range main {
		main[v] = comp[v] == largest
	}
	return main
}

// Metres between two points: on so small a distance the earth is flat enough (error under 0.1 % within 100 km).
func Metres(a, b Point) float64 {
	x, y := offset(a, b)
	return math.Hypot(x, y)
}

// offset is how far b lies east (x) and north (y) of a, in metres.
func offset(a, b Point) (x, y float64) {
	const perUnit = 6371008.8 * math.Pi / 180 * 1e-7
	mid := (float64(a.Lat) + float64(b.Lat)) / 2 * 1e-7 * math.Pi / 180
	return (float64(b.Lon) - float64(a.Lon)) * perUnit * math.Cos(mid), (float64(b.Lat) - float64(a.Lat)) * perUnit
}

func length(points []Point) float64 {
	sum := 0.0
	for i := 1; i < len(points); i++ {
		sum += Metres(points[i-1], points[i])
	}
	return sum
}

// bearing is the compass direction from a to b in degrees, north 0, east 90.
func bearing(a, b Point) float64 {
	x, y := offset(a, b)
	return math.Mod(math.Atan2(x, y)*180/math.Pi+360, 360)
}

// turnAngle is the change from one bearing to another, -180 to 180, right positive.
func turnAngle(from, to float64) float64 {
	return math.Mod(to-from+900, 360) - 180
}

func clamp[T cmp.Ordered](v, low, high T) T { return max(low, min(v, high)) }

// PointAt is the point at a place in degrees; ok is false when it is not on earth.
func PointAt(lat, lon float64) (p Point, ok bool) {
	if !(math.Abs(lat) <= 90 && math.Abs(lon) <= 180) {
		return Point{}, false
	}
	return Point{int32(math.Round(lat * 1e7)), int32(math.Round(lon * 1e7))}, true
}
