package index

import (
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
		set = c.candidates(f, fuel)
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
		e := evaluator{Document: d.Tree, fuel: *fuel}
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
	f, left := narrowed(q.filter, by), c.Len()
	if f != nil && most < left {
		left = min(left, c.estimate(f, left, fuel))
	}
	// Walking meets a match every Len/left steps, if they lie evenly; a step costs less than a candidate.
	if left > 0 && most < left && float64(most)*float64(c.Len())/float64(left) < 2*float64(left) {
		n := 0
		return c.verify(c.walk(f, after, fuel), q, by, fuel, func(d *Doc) bool { n++; return found(d) && n < most })
	}
	var docs []*Doc
	effort, err := c.Search(q, by, fuel, func(d *Doc) bool {
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

// walk goes through the slots in the order of their documents' IDs, behind one of them, and leaves out what single
// postings of the filter rule out.
func (c *Class) walk(f filter, after string, fuel *int) slots {
	var have []*posting
	for _, g := range flatten(allOf{f}, nil) {
		if t, ok := g.(*terms); ok {
			if p := c.single(t); p != nil {
				have = append(have, p)
			}
		}
	}
	return func(f func(uint32) bool) {
		c.ids.Ascend(placed{id: after, slot: math.MaxUint32}, func(p placed) bool {
			if p.id == after {
				return true
			}
			for _, h := range have {
				if !h.contains(p.slot) {
					return burn(fuel)
				}
			}
			return f(p.slot)
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

// candidates are the slots of a filter.
func (c *Class) candidates(f filter, fuel *int) slots {
	f = c.cheapest(f, fuel)
	if t, ok := f.(*terms); ok {
		if p := c.single(t); p != nil {
			return p.each
		}
	}
	if a, ok := f.(allOf); ok {
		return c.intersection(a, fuel)
	}
	set := c.materialise(f, fuel)
	return func(f func(uint32) bool) { set.Iterate(f) }
}

func (p *posting) each(f func(uint32) bool) {
	if p.many != nil {
		p.many.Iterate(f)
		return
	}
	for _, s := range p.few {
		if !f(s) {
			return
		}
	}
}

// cheapest brings the smallest part of a conjunction to its front and drops what is known to be not worth opening.
func (c *Class) cheapest(f filter, fuel *int) filter {
	a, ok := f.(allOf)
	if !ok {
		return f
	}
	flat := flatten(a, nil)
	best, least := 0, math.MaxInt
	for i, g := range flat { // single postings first: they cost nothing to measure and limit the measuring of ranges
		if t, ok := g.(*terms); ok {
			if p := c.single(t); p != nil && p.len() < least {
				best, least = i, p.len()
			}
		}
	}
	for i, g := range flat {
		if least == 0 {
			break
		}
		if n := c.estimate(g, min(least, c.Len()), fuel); n < least {
			best, least = i, n
		}
	}
	flat[0], flat[best] = flat[best], flat[0]
	return flat
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

// intersection takes the first part, which is the smallest, and rules out by those others that are one posting.
func (c *Class) intersection(a allOf, fuel *int) slots {
	first := c.candidates(a[0], fuel)
	var others []*posting
	for _, f := range a[1:] {
		if t, ok := f.(*terms); ok {
			if p := c.single(t); p != nil {
				others = append(others, p)
			}
		}
	}
	// Two large postings are cheaper to intersect whole.
	if t, ok := a[0].(*terms); ok && len(others) > 0 {
		if p := c.single(t); p != nil && p.many != nil && p.len() > 1024 {
			set := p.many
			for _, o := range others {
				if o.many != nil {
					set = roaring.And(set, o.many)
				}
			}
			first = func(f func(uint32) bool) { set.Iterate(f) }
		}
	}
	return func(f func(uint32) bool) {
		first(func(s uint32) bool {
			for _, o := range others {
				if !o.contains(s) {
					return true
				}
			}
			return f(s)
		})
	}
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
		c.scan(f, fuel, func(p *posting) bool {
			n += p.len()
			return n <= limit
		})
	}
	return n
}

// materialise makes the set of a filter.
func (c *Class) materialise(f filter, fuel *int) *roaring.Bitmap {
	set := roaring.New()
	switch f := f.(type) {
	case allOf:
		c.candidates(f, fuel)(func(s uint32) bool { set.Add(s); return true })
	case oneOfThem:
		for _, g := range f {
			set.Or(c.materialise(g, fuel))
		}
	case *terms:
		c.scan(f, fuel, func(p *posting) bool { p.addTo(set); return true })
	}
	return set
}

// none is the posting of a term that no document has.
var none = &posting{}

// single is the posting of a filter that is one term at one path, none when no document has it, nil when it is more.
func (c *Class) single(t *terms) *posting {
	if !t.exact || t.from != t.to {
		return nil
	}
	if found, ok := c.terms.Get(term{path: t.path, kind: t.kind, number: t.from.number, text: t.from.text}); ok {
		return found.posting
	}
	return none
}

// scan calls f with every posting of a filter's terms until it says false or the fuel is used up; nil fuel is endless.
func (c *Class) scan(t *terms, fuel *int, f func(*posting) bool) {
	if t.exact {
		c.scanPath(t.path, t, fuel, f)
		return
	}
	last, _ := t.at.last()
	c.names.Ascend(name{last: last}, func(n name) bool {
		if n.last != last {
			return false
		}
		return burn(fuel) && (!t.at.matches(n.path) || c.scanPath(n.path, t, fuel, f))
	})
}

func (c *Class) scanPath(path string, t *terms, fuel *int, f func(*posting) bool) bool {
	more := true
	c.terms.Ascend(term{path: path, kind: t.kind, number: t.from.number, text: t.from.text}, func(found term) bool {
		if found.path != path || found.kind != t.kind || found.number > t.to.number || found.text > t.to.text {
			return false
		}
		more = burn(fuel) && f(found.posting)
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
