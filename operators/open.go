package operators

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Open is what is decided so far of the type at the end of an unfinished chain: each parameter's possible values, and
// which parameters are bound to be equal. It is all of the chain's types that what follows can depend on: two chains
// with equal keys accept the same continuations. A planner extends it member by member, where Unify judges a whole
// chain; both give the same verdict. Open is a value; nothing changes one.
type Open struct {
	media  string
	params []openParam // in order of name
	class  []domain    // the values that each class of equal parameters may still have
}

type openParam struct {
	name  string
	class int
}

// OpenOf is the open type that a source with the output pattern makes.
func OpenOf(name string, out Pattern) (Open, error) {
	return outOf(&step{bound: map[string]int{}}, Link{Name: name, Out: out})
}

// Then is the open type behind the next member, or why it does not fit (a *Mismatch, or what is left undecided). from
// names the member that made o. A member without output ends the chain: its open type is zero.
func (o Open) Then(from string, next Link) (Open, error) {
	if o.media != next.In.media {
		return Open{}, &Mismatch{From: from, To: next.Name, Offered: o.media, Wanted: next.In.media}
	}
	s := step{class: slices.Clone(o.class), bound: make(map[string]int, 4)}
	s.parent = make([]int, len(s.class))
	for i := range s.parent {
		s.parent[i] = i
	}
	for _, want := range next.In.params {
		offer, ok := o.param(want.name)
		w, d := -1, want.domain
		if b, known := s.bound[want.variable]; want.variable != "" && known {
			w = s.find(b)
			if d = s.class[w].and(want.domain); d.none() {
				return Open{}, fmt.Errorf("%s: $%s cannot be both %s and %s", next.Name, want.variable, s.class[w].words(), want.domain.words())
			}
		}
		if !ok {
			return Open{}, &Mismatch{From: from, To: next.Name, Param: want.name, Wanted: d.words()}
		}
		c := s.find(offer)
		both := s.class[c].and(d)
		if both.none() {
			return Open{}, &Mismatch{From: from, To: next.Name, Param: want.name, Offered: s.class[c].words(), Wanted: d.words()}
		}
		s.class[c] = both
		if w >= 0 {
			s.parent[w] = c
		}
		if want.variable != "" {
			s.bound[want.variable] = c
		}
	}
	result, err := outOf(&s, next)
	if err != nil {
		return Open{}, err
	}
	for _, p := range o.params {
		if c := s.find(p.class); !s.carried[c] && s.class[c].any() {
			return Open{}, fmt.Errorf("nothing decides the %s that %s makes", p.name, from)
		}
	}
	return result, nil
}

// Media is the media type; "" when the chain has ended.
func (o Open) Media() string { return o.media }

// Decided is a parameter's value when there is only one left. has says whether the type has the parameter.
func (o Open) Decided(param string) (value string, has bool) {
	c, ok := o.param(param)
	if !ok {
		return "", false
	}
	if d := o.class[c]; len(d.values) == 1 {
		return d.values[0], true
	}
	return "", true
}

// Free reports whether the type has a parameter that may still have any value: a chain cannot end so, nor go on without it.
func (o Open) Free(param string) bool {
	c, ok := o.param(param)
	return ok && o.class[c].any()
}

// Key is equal for open types that are equal.
func (o Open) Key() string {
	var b strings.Builder
	b.WriteString(o.media)
	for _, p := range o.params {
		b.WriteString(";" + p.name + "=$" + strconv.Itoa(p.class) + ":" + o.class[p.class].String())
	}
	return b.String()
}

// String is the pattern that the open type stands for; variables only where parameters are bound to be equal.
func (o Open) String() string {
	var b strings.Builder
	b.WriteString(o.media)
	shared := make([]int, len(o.class))
	for _, p := range o.params {
		shared[p.class]++
	}
	for _, p := range o.params {
		d := o.class[p.class]
		pp := patternParam{name: p.name, domain: d}
		if shared[p.class] > 1 && len(d.values) != 1 {
			pp.variable = "v" + strconv.Itoa(p.class)
		}
		b.WriteString(";" + p.name + "=" + pp.String())
	}
	return b.String()
}

func (o Open) param(name string) (class int, ok bool) {
	for _, p := range o.params {
		if p.name == name {
			return p.class, true
		}
	}
	return 0, false
}

// step is the union-find over the classes of one open type while the next member is joined to it.
type step struct {
	class   []domain
	parent  []int
	bound   map[string]int // the member's variables
	carried map[int]bool   // classes that live on in the member's output
}

func (s *step) find(c int) int {
	for s.parent[c] != c {
		c = s.parent[c]
	}
	return c
}

// outOf is the open type of a member's output, its variables bound as s says, classes numbered in order of appearance.
func outOf(s *step, l Link) (Open, error) {
	o := Open{media: l.Out.media}
	s.carried = make(map[int]bool, len(l.Out.params))
	classes := make([]int, 0, len(l.Out.params)) // of s, by parameter
	for _, p := range l.Out.params {
		c := -1
		if p.variable != "" {
			if b, known := s.bound[p.variable]; known {
				c = s.find(b)
			}
		}
		if c < 0 {
			c = len(s.class)
			s.class, s.parent = append(s.class, p.domain), append(s.parent, c)
			if p.variable != "" {
				s.bound[p.variable] = c
			}
		} else {
			both := s.class[c].and(p.domain)
			if both.none() {
				return Open{}, fmt.Errorf("%s: $%s cannot be both %s and %s", l.Name, p.variable, s.class[c].words(), p.domain.words())
			}
			s.class[c] = both
		}
		classes = append(classes, c)
	}
	number := make(map[int]int, len(classes))
	for i, p := range l.Out.params {
		c := classes[i]
		s.carried[c] = true
		n, seen := number[c]
		if !seen {
			n = len(o.class)
			number[c] = n
			o.class = append(o.class, s.class[c])
		}
		o.class[n] = s.class[c]
		o.params = append(o.params, openParam{p.name, n})
	}
	return o, nil
}

// Names lists the parameters of the type, in order.
func (o Open) Names() []string {
	names := make([]string, len(o.params))
	for i, p := range o.params {
		names[i] = p.name
	}
	return names
}
