package index

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
)

// Search calls found for every document of the class that meets the query, and, when by is not empty, whose owner is
// by, until found says false. Work is charged to fuel, which starts as Fuel and serves all classes of one question.
// Its cost follows what the rarest term of the query leaves, not the size of the class.
func (c *Class) Search(q *Query, by string, fuel *int, found func(*Doc) bool) (Effort, error) {
	if c.Len() == 0 {
		return Effort{}, nil
	}
	set := c.everything
	if f := narrowed(q.filter, by); f != nil {
		set = c.candidates(c.plan(f, fuel), fuel)
	}
	return c.verify(set, q, by, fuel, found)
}

// verify calls found with those of the candidates that do meet the query.
func (c *Class) verify(set slots, q *Query, by string, fuel *int, found func(*Doc) bool) (effort Effort, err error) {
	if *fuel < 0 {
		return effort, ErrTooExpensive
	}
	set(func(slot uint32) bool {
		d := c.doc(slot)
		if *fuel--; d == nil || by != "" && d.Owner != by {
			return *fuel >= 0
		}
		effort.Verified++
		*fuel -= lookAt
		e := evaluator{Tree: d.Tree, fuel: *fuel}
		ok := q.where.holds(&e, ref{-1, -1})
		if *fuel = e.fuel; e.fuel < 0 || !ok {
			return e.fuel >= 0
		}
		effort.Found++
		return found(d)
	})
	if *fuel < 0 {
		return effort, ErrTooExpensive
	}
	return effort, nil
}

// lookAt is the fuel that one candidate costs before its elements are counted.
const lookAt = 4

// Ordered is Search in the order of IDs, for the most first matches behind the ID after. When matches are many for what
// is wanted, it walks along the IDs and does not visit the rest of them.
func (c *Class) Ordered(q *Query, by, after string, most int, fuel *int, found func(*Doc) bool) (Effort, error) {
	if c.Len() == 0 || most <= 0 {
		return Effort{}, nil
	}
	set, left := c.everything, c.Len()
	if f := narrowed(q.filter, by); f != nil {
		p := c.plan(f, fuel)
		left = p.size
		// Walking meets a match every Len/left steps, if they lie evenly; a step costs less than a candidate.
		if left > 0 && most < left && float64(most)*float64(c.Len())/float64(left) < 2*float64(left) {
			n := 0
			return c.verify(c.walk(p, after, fuel), q, by, fuel, func(d *Doc) bool { n++; return found(d) && n < most })
		}
		set = c.candidates(p, fuel)
	} else if most < left {
		n := 0
		return c.verify(c.walk(plan{}, after, fuel), q, by, fuel, func(d *Doc) bool { n++; return found(d) && n < most })
	}
	var docs []*Doc
	effort, err := c.verify(set, q, by, fuel, func(d *Doc) bool {
		if d.ID > after {
			docs = append(docs, d)
		}
		if len(docs) == 2*most+1024 { // what is kept is bounded by what is wanted
			docs = first(docs, most)
		}
		return true
	})
	if err != nil {
		return effort, err
	}
	for _, d := range first(docs, most) {
		if !found(d) {
			break
		}
	}
	return effort, nil
}

// first orders documents and keeps the first most.
func first(docs []*Doc, most int) []*Doc {
	slices.SortFunc(docs, func(a, b *Doc) int { return strings.Compare(a.ID, b.ID) })
	return docs[:min(len(docs), most)]
}

// walk goes through the slots in the order of their documents' IDs, behind one of them, and leaves out what the known
// parts of the plan rule out.
func (c *Class) walk(p plan, after string, fuel *int) slots {
	return func(f func(uint32) bool) {
		c.ids.ascend(after, func(id string, slot uint32) bool {
			if id == after {
				return true
			}
			if !p.admits(0, slot) {
				return burn(fuel)
			}
			return f(slot)
		})
	}
}

// Effort says what a search did.
type Effort struct {
	Verified int // candidates that postings could not rule out
	Found    int
}

// slots calls f with slots in rising order until it says false.
type slots func(f func(uint32) bool)

func (c *Class) everything(f func(uint32) bool) {
	for s := range c.size {
		if !f(s) {
			return
		}
	}
}

// plan is how a class finds the documents of a filter: it looks at those of the first part, and rules out by the others
// as far as they are known.
type plan struct {
	parts []part
	size  int // of the first part, at most; counting stops at the size of the class
}

// part is a conjunct of a filter.
type part struct {
	filter filter
	known  bool   // what is left of the filter is these sets
	sets   [2]set // not empty; the second may be
	size   int
}

// plan measures the parts of a filter. Those that are known cost nothing to measure and limit the measuring of ranges.
func (c *Class) plan(f filter, fuel *int) plan {
	var flat [8]filter
	all := flatten(allOf{f}, flat[:0])
	p := plan{parts: make([]part, len(all)), size: c.Len()}
	best := -1
	for i, g := range all {
		x := &p.parts[i]
		x.filter = g
		if x.known = c.resolve(g, &x.sets); x.known {
			if x.size = x.sets[0].len() + x.sets[1].len(); best < 0 || x.size < p.size {
				best, p.size = i, x.size
			}
		}
	}
	for i := range p.parts {
		if x := &p.parts[i]; !x.known && p.size > 0 {
			if x.size = c.estimate(x.filter, p.size, fuel); best < 0 || x.size < p.size {
				best, p.size = i, min(x.size, c.Len())
			}
		}
	}
	p.parts[0], p.parts[best] = p.parts[best], p.parts[0]
	return p
}

// resolve finds the sets of a filter that is one term at one path or one of a few such, and reports whether it is.
func (c *Class) resolve(f filter, into *[2]set) bool {
	switch f := f.(type) {
	case *terms:
		if !f.exact || f.from != f.to {
			return false
		}
		into[0] = c.single(f)
		return true
	case oneOfThem:
		n := 0
		for _, g := range f {
			t, ok := g.(*terms)
			if !ok || !t.exact || t.from != t.to {
				return false
			}
			s := c.single(t)
			if s.len() == 0 {
				continue
			}
			if n == len(into) {
				return false
			}
			into[n] = s
			n++
		}
		return true
	}
	return false
}

// admits reports whether no known part from the first on rules a slot out.
func (p *plan) admits(first int, slot uint32) bool {
	for i := first; i < len(p.parts); i++ {
		if x := &p.parts[i]; x.known && !x.sets[0].contains(slot) && !x.sets[1].contains(slot) {
			return false
		}
	}
	return true
}

// candidates are the slots of a plan.
func (c *Class) candidates(p plan, fuel *int) slots {
	x := &p.parts[0]
	switch {
	case !x.known:
		set := c.materialise(x.filter, fuel)
		return p.ruled(func(f func(uint32) bool) { set.Iterate(f) })
	case x.sets[1].len() > 0:
		return p.ruled(func(f func(uint32) bool) {
			_ = x.sets[0].each(f) && x.sets[1].each(func(slot uint32) bool { return x.sets[0].contains(slot) || f(slot) })
		})
	case x.size > 1024: // two large postings are cheaper to intersect whole
		set := x.sets[0].many
		for _, o := range p.parts[1:] {
			if o.known && o.sets[0].posting != nil && o.sets[0].many != nil && o.sets[1].len() == 0 {
				set = roaring.And(set, o.sets[0].many)
			}
		}
		return p.ruled(func(f func(uint32) bool) { set.Iterate(f) })
	}
	return p.ruled(func(f func(uint32) bool) { x.sets[0].each(f) })
}

// ruled leaves out what the parts behind the first rule out.
func (p plan) ruled(first slots) slots {
	return func(f func(uint32) bool) {
		first(func(slot uint32) bool { return !p.admits(1, slot) || f(slot) })
	}
}

func flatten(a allOf, out allOf) allOf {
	for _, f := range a {
		if inner, ok := f.(allOf); ok {
			out = flatten(inner, out)
			continue
		}
		out = append(out, f)
	}
	return out
}

// estimate is the size of what the filter leaves, or something above limit as soon as it is known to be above.
func (c *Class) estimate(f filter, limit int, fuel *int) int {
	n := 0
	switch f := f.(type) {
	case allOf:
		n = math.MaxInt
		for _, g := range f {
			if n = min(n, c.estimate(g, min(n, limit), fuel)); n == 0 {
				break
			}
		}
	case oneOfThem:
		for _, g := range f {
			if n += c.estimate(g, limit-n, fuel); n > limit {
				break
			}
		}
	case *terms:
		c.scan(f, fuel, func(s set) bool {
			n += s.len()
			return n <= limit
		})
	}
	return n
}

// materialise makes the set of a filter.
func (c *Class) materialise(f filter, fuel *int) *roaring.Bitmap {
	all := roaring.New()
	switch f := f.(type) {
	case allOf:
		c.candidates(c.plan(f, fuel), fuel)(func(s uint32) bool { all.Add(s); return true })
	case oneOfThem:
		for _, g := range f {
			all.Or(c.materialise(g, fuel))
		}
	case *terms:
		c.scan(f, fuel, func(s set) bool { s.addTo(all); return true })
	}
	return all
}

// single is the set of a filter that is one term at one path.
func (c *Class) single(t *terms) (s set) {
	if t.kind == owner {
		s, _ = c.owners.get(t.from.text)
		return s
	}
	spot := c.at(t.path)
	if spot == nil {
		return s
	}
	switch t.kind {
	case present:
		return spot.present
	case branch:
		return spot.branch
	case text:
		s, _ = spot.texts.get(t.from.text)
	case numeric:
		s, _ = spot.numbers.get(t.from.number)
	}
	return s
}

// scan calls f with every set of a filter's terms until it says false or the fuel is used up; nil fuel is endless.
func (c *Class) scan(t *terms, fuel *int, f func(set) bool) {
	if t.kind == owner || t.exact && t.from == t.to {
		_ = burn(fuel) && f(c.single(t))
		return
	}
	if t.exact {
		if s := c.at(t.path); s != nil {
			s.scan(t, fuel, f)
		}
		return
	}
	last, _ := t.at.last()
	paths, _ := c.names.get(last)
	for _, path := range paths {
		if !burn(fuel) || t.at.matches(path) && !c.at(path).scan(t, fuel, f) {
			return
		}
	}
}

func (s *spot) scan(t *terms, fuel *int, f func(set) bool) bool {
	switch t.kind {
	case present:
		return burn(fuel) && f(s.present)
	case branch:
		return burn(fuel) && f(s.branch)
	case text:
		return within(&s.texts, t.from.text, t.to.text, fuel, f)
	}
	return within(&s.numbers, t.from.number, t.to.number, fuel, f)
}

// within calls f with the sets of the keys in a range, both ends included.
func within[K cmp.Ordered](in *sorted[K, set], from, to K, fuel *int, f func(set) bool) bool {
	more := true
	in.ascend(from, func(k K, s set) bool {
		if k > to {
			return false
		}
		more = burn(fuel) && f(s)
		return more
	})
	return more
}

// burn takes one unit, if there is one left.
func burn(fuel *int) bool {
	if fuel == nil {
		return true
	}
	*fuel--
	return *fuel >= 0
}
