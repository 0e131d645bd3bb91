package roads

import (
	"math"
	"slices"
	"strings"

	"ninja/examples/directions/spoken"
)

// Kind says what a driver does at a step.
type Kind string

// Kinds of steps.
const (
	Depart     Kind = "depart"     // set out in the direction Heading
	Turn       Kind = "turn"       // turn as Side and Bend say
	Keep       Kind = "keep"       // keep to one side where the road divides
	Continue   Kind = "continue"   // the road goes on under another name
	Ramp       Kind = "ramp"       // leave for a ramp
	Merge      Kind = "merge"      // join the road that the ramp leads to
	Roundabout Kind = "roundabout" // take the exit Exit of a roundabout
	UTurn      Kind = "u-turn"     // turn back
	Arrive     Kind = "arrive"     // be there
)

// Step is one thing that a driver is told.
type Step struct {
	Kind Kind
	// Side is "left", "right" or "" (straight); at the arrival, where the place lies.
	Side string
	// Bend is "slight", "" or "sharp".
	Bend string
	// Heading is the compass direction of the departure, in words.
	Heading string
	// Exit counts the exits of a roundabout, from 1.
	Exit int
	// Road is what one drives on after the step; it may have no name.
	Road Street
	// Same is set when the road has the same name as the one before.
	Same bool
	// At is where the step is taken; Metres and Seconds are driven after it, until the next.
	At              Point
	Metres, Seconds float64
}

// leg is a stretch of the route that a driver takes as one piece.
type leg struct {
	first, last int // in the route's arcs
	metres      float64
	seconds     float64
	kind        *kind
	street      *Street
}

// label is what tells two streets apart for a driver.
func (s *Street) label() string {
	if s.key != "" {
		return s.key
	}
	return s.refKey
}

// steps turns the arcs of a route into what the driver is told.
func (g *Graph) steps(r *Route) []Step {
	legs := g.absorb(r, g.legs(r))
	steps := []Step{{Kind: Depart, Heading: compassWord(g.startBearing(r.arcs[legs[0].first])), Road: *legs[0].street, At: r.From.At,
		Metres: legs[0].metres, Seconds: legs[0].seconds}}
	exits := 0
	for i := 1; i < len(legs); i++ {
		from, to := legs[i-1], legs[i]
		if to.kind.roundabout && i < len(legs)-1 {
			exits = g.exits(r, to)
			last := &steps[len(steps)-1]
			last.Metres, last.Seconds = last.Metres+to.metres, last.Seconds+to.seconds
			continue
		}
		if from.kind.roundabout && i >= 2 {
			from = legs[i-2]
		}
		step, ok := g.manoeuvre(r, from, to, exits)
		exits = 0
		if !ok {
			last := &steps[len(steps)-1]
			if last.Road.Ref != "" && to.metres > last.Metres && slices.Contains(to.street.refs, strings.ToLower(last.Road.Ref)) {
				last.Road.Name = spoken.Name{} // most of the way it has another name: the number says it better
			}
			last.Metres, last.Seconds = last.Metres+to.metres, last.Seconds+to.seconds
			continue
		}
		steps = append(steps, step)
	}
	return append(steps, Step{Kind: Arrive, At: r.To.At, Road: *legs[len(legs)-1].street})
}

// legs cuts the route where the street, or the kind of road, changes, and where the same street turns a corner.
func (g *Graph) legs(r *Route) []leg {
	var legs []leg
	for i, arc := range r.arcs {
		k := g.kindOf(arc)
		l := leg{i, i, g.driven(r, i), 0, k, &g.streets[k.street]}
		l.seconds = l.metres / (float64(k.speed) / 3.6)
		if i > 0 {
			last := &legs[len(legs)-1]
			same := last.street.label() == l.street.label() && last.kind.roundabout == k.roundabout && last.kind.link == k.link
			if same && (k.roundabout || !g.corner(r.arcs[i-1], arc)) {
				last.last, last.metres, last.seconds = i, last.metres+l.metres, last.seconds+l.seconds
				continue
			}
		}
		legs = append(legs, l)
	}
	return legs
}

// corner reports whether the way turns where it could also go elsewhere.
func (g *Graph) corner(arc, next int32) bool {
	return next == arc^1 || len(g.leaving(g.head(arc))) > 2 && math.Abs(turnAngle(g.endBearing(arc), g.startBearing(next))) >= 45
}

// Pieces shorter than these are part of a junction, not a road of their own: the gap between the two carriageways of a
// dual road, a slip lane round a corner.
const (
	gapMetres  = 30
	slipMetres = 150
)

// absorb drops legs that are parts of junctions, so that two turns a few metres apart become the one turn that a driver
// sees, and joins what is then one street.
func (g *Graph) absorb(r *Route, legs []leg) []leg {
	var kept []leg
	carry, carrySeconds := 0.0, 0.0
	for i, l := range legs {
		unnamed := l.street.label() == ""
		inside := i > 0 && i < len(legs)-1 && !l.kind.roundabout
		beside := inside && !legs[i-1].kind.roundabout && !legs[i+1].kind.roundabout
		gap := beside && l.metres < gapMetres
		slip := inside && l.kind.link && unnamed && l.street.Toward == "" && l.metres < slipMetres
		stub := i == 0 && len(legs) > 1 && unnamed && l.metres < gapMetres
		if gap || slip || stub || (inside && unnamed && l.metres < gapMetres) {
			carry, carrySeconds = carry+l.metres, carrySeconds+l.seconds
			continue
		}
		l.metres, l.seconds = l.metres+carry, l.seconds+carrySeconds
		carry, carrySeconds = 0, 0
		if n := len(kept); n > 0 && !l.kind.roundabout && !kept[n-1].kind.roundabout && kept[n-1].street.label() == l.street.label() &&
			math.Abs(g.between(r, kept[n-1], l)) < 45 {
			kept[n-1].last = l.last
			kept[n-1].metres += l.metres
			kept[n-1].seconds += l.seconds
			continue
		}
		kept = append(kept, l)
	}
	return kept
}

// between is the angle of the turn from one leg into another.
func (g *Graph) between(r *Route, from, to leg) float64 {
	return turnAngle(g.endBearing(r.arcs[from.last]), g.startBearing(r.arcs[to.first]))
}

// exits counts the exits of a roundabout up to the one that is taken.
func (g *Graph) exits(r *Route, l leg) int {
	n := 0
	for _, arc := range r.arcs[l.first : l.last+1] {
		for _, out := range g.leaving(g.head(arc)) {
			if !g.kindOf(out).roundabout {
				n++
				break
			}
		}
	}
	return max(n, 1)
}

// manoeuvre is what is done between two legs; ok is false when the driver need not be told.
func (g *Graph) manoeuvre(r *Route, from, to leg, exits int) (step Step, ok bool) {
	angle := g.between(r, from, to)
	step = Step{Kind: Turn, Road: *to.street, At: g.vertices[g.tail(r.arcs[to.first])], Metres: to.metres, Seconds: to.seconds}
	step.Same = to.street.label() != "" && to.street.label() == from.street.label()
	step.Side, step.Bend = side(angle), bend(angle)
	forced := to.first > 0 && len(g.leaving(g.tail(r.arcs[to.first]))) <= 2 && !g.fork(r, to)
	slight := math.Abs(angle) < 45
	switch {
	case exits > 0:
		step.Kind, step.Exit, step.Side, step.Bend = Roundabout, exits, "", ""
	case to.kind.roundabout:
		step.Kind, step.Exit = Roundabout, 0
	case to.kind.link && !from.kind.link && slight:
		step.Kind = Ramp
	case from.kind.link && !to.kind.link && slight:
		step.Kind = Merge
	case math.Abs(angle) > 165 && (step.Same || to.first == from.last+1 && r.arcs[to.first] == r.arcs[from.last]^1):
		step.Kind, step.Side, step.Bend = UTurn, "", ""
	case slight && g.fork(r, to) && step.Side != "":
		step.Kind, step.Bend = Keep, ""
	case slight || forced:
		step.Kind, step.Bend, step.Side = Continue, "", ""
		return step, !step.Same && to.street.label() != "" && !from.street.goesOn(to.street)
	}
	return step, true
}

// fork reports whether where a leg begins another road goes nearly the same way.
func (g *Graph) fork(r *Route, l leg) bool {
	if l.first == 0 {
		return false
	}
	before, into := r.arcs[l.first-1], r.arcs[l.first]
	for _, other := range g.leaving(g.head(before)) {
		if other != into && other != before^1 && !g.kindOf(other).service &&
			math.Abs(turnAngle(g.endBearing(before), g.startBearing(other))) < 40 {
			return true
		}
	}
	return false
}

func side(angle float64) string {
	switch {
	case angle > 15:
		return "right"
	case angle < -15:
		return "left"
	}
	return ""
}

func bend(angle float64) string {
	switch a := math.Abs(angle); {
	case a < 45:
		return "slight"
	case a > 130:
		return "sharp"
	}
	return ""
}

// compassWord is the name of a bearing in eighths of the compass.
func compassWord(degrees float64) string {
	words := []string{"north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest"}
	return words[int(math.Mod(degrees+360+22.5, 360)/45)%8]
}

// Facing says on which side of the road's end the place lies ("left" or "right"), "" when it is on the road itself.
func (g *Graph) Facing(r *Route, place Point) string {
	if r.To.Metres < 5 {
		return ""
	}
	arc := r.arcs[len(r.arcs)-1]
	heading := g.bearingAt(arc, r.To.At)
	return sideOf(turnAngle(heading, bearing(r.To.At, place)))
}

func sideOf(angle float64) string {
	if angle < 0 {
		return "left"
	}
	return "right"
}

// bearingAt is the direction of an arc at the piece of it that is nearest to p.
func (g *Graph) bearingAt(arc int32, p Point) float64 {
	l := g.links[arc>>1]
	pts := g.shape[l.first:l.end]
	best, heading := math.Inf(1), 0.0
	for i := 1; i < len(pts); i++ {
		if _, d := project(p, pts[i-1], pts[i]); d < best {
			best, heading = d, bearing(pts[i-1], pts[i])
		}
	}
	if arc&1 == 1 {
		heading += 180
	}
	return heading
}
