package operators

import (
	"fmt"

	"ninja/connectors"
)

// Link is one member of a chain: what it accepts and what it makes. Variables are its own: those of two members are
// never the same. The first member of a chain has no In, the last no Out.
type Link struct {
	Name    string
	In, Out Pattern
}

// Unify decides whether the members of a chain fit together, each one's output to the next one's input, and with what
// types. Values flow both ways: a source's rate through a resampler, a service's grammar back to the recogniser before
// it. On success hops[i] is the ground type between members i and i+1.
func Unify(chain []Link) (hops []connectors.Type, err error) {
	u := unifier{slots: make(map[slotKey]int)}
	for i := 0; i+1 < len(chain); i++ {
		if err := u.join(chain, i); err != nil {
			return nil, err
		}
	}
	// Every output parameter narrows its class before any value is picked: a pick must suit all that share it.
	for i := 0; i+1 < len(chain); i++ {
		for _, p := range chain[i].Out.params {
			if _, err := u.slot(i, sideOut, p); err != nil {
				return nil, fmt.Errorf("%s: %w", chain[i].Name, err)
			}
		}
	}
	for i := 0; i+1 < len(chain); i++ {
		t, err := u.ground(chain, i)
		if err != nil {
			return nil, err
		}
		hops = append(hops, t)
	}
	return hops, nil
}

// Mismatch says why two neighbours in a chain do not fit.
type Mismatch struct {
	// From and To are the neighbours; Hop is the position of From in the chain.
	From, To string
	Hop      int
	// Param is the parameter that does not fit, "" for the media type itself.
	Param string
	// Offered and Wanted are the two sides in words; Offered is "" when the parameter is missing.
	Offered, Wanted string
}

// Error is one sentence.
func (m *Mismatch) Error() string {
	switch {
	case m.Param == "":
		return fmt.Sprintf("%s offered by %s, %s wanted by %s", m.Offered, m.From, m.Wanted, m.To)
	case m.Offered == "" && m.Wanted == (domain{}).words():
		return fmt.Sprintf("%s wants a %s, and %s offers none", m.To, m.Param, m.From)
	case m.Offered == "":
		return fmt.Sprintf("%s wants %s=%s, and %s offers no %s", m.To, m.Param, m.Wanted, m.From, m.Param)
	default:
		return fmt.Sprintf("%s %s offered by %s, %s wanted by %s", m.Param, m.Offered, m.From, m.Wanted, m.To)
	}
}

// unifier is a union-find over the variables of a chain, each class with the values it may still have.
type unifier struct {
	slots  map[slotKey]int
	parent []int
	domain []domain
}

// slotKey names a member's variable, or, without one, the parameter on its side of the member.
type slotKey struct {
	member int
	side   side
	name   string
}

type side uint8

const (
	sideBoth side = iota // a variable's value is one on both sides
	sideIn
	sideOut
)

// slot is the class of a parameter's value.
func (u *unifier) slot(member int, where side, p patternParam) (int, error) {
	key := slotKey{member, where, p.name}
	if p.variable != "" {
		key = slotKey{member, sideBoth, p.variable}
	}
	s, known := u.slots[key]
	if !known {
		s = len(u.parent)
		u.parent = append(u.parent, s)
		u.domain = append(u.domain, p.domain)
		u.slots[key] = s
		return s, nil
	}
	s = u.find(s)
	both := u.domain[s].and(p.domain)
	if both.none() {
		return s, fmt.Errorf("$%s cannot be both %s and %s", p.variable, u.domain[s].words(), p.domain.words())
	}
	u.domain[s] = both
	return s, nil
}

func (u *unifier) find(s int) int {
	for u.parent[s] != s {
		s = u.parent[s]
	}
	return s
}

// join makes one of the values on both sides of a hop.
func (u *unifier) join(chain []Link, i int) error {
	from, to := chain[i], chain[i+1]
	miss := &Mismatch{From: from.Name, To: to.Name, Hop: i}
	if from.Out.media != to.In.media {
		miss.Offered, miss.Wanted = from.Out.media, to.In.media
		return miss
	}
	for _, want := range to.In.params {
		w, err := u.slot(i+1, sideIn, want)
		if err != nil {
			return fmt.Errorf("%s: %w", to.Name, err)
		}
		miss.Param, miss.Wanted = want.name, u.domain[u.find(w)].words()
		offer, ok := find(from.Out.params, want.name)
		if !ok {
			return miss
		}
		o, err := u.slot(i, sideOut, offer)
		if err != nil {
			return fmt.Errorf("%s: %w", from.Name, err)
		}
		o, w = u.find(o), u.find(w)
		both := u.domain[o].and(u.domain[w])
		if both.none() {
			miss.Offered = u.domain[o].words()
			return miss
		}
		u.parent[o] = w
		u.domain[w] = both
	}
	return nil
}

// ground is the type of a hop once everything is joined.
func (u *unifier) ground(chain []Link, i int) (connectors.Type, error) {
	out := chain[i].Out
	params := make([]connectors.Param, 0, len(out.params))
	for _, p := range out.params {
		s, err := u.slot(i, sideOut, p)
		if err != nil {
			return connectors.Type{}, fmt.Errorf("%s: %w", chain[i].Name, err)
		}
		s = u.find(s)
		v := u.domain[s].pick()
		if v == "" {
			return connectors.Type{}, fmt.Errorf("nothing decides the %s that %s makes", p.name, chain[i].Name)
		}
		u.domain[s] = domain{values: []string{v}}
		params = append(params, connectors.Param{Name: p.name, Value: v})
	}
	return connectors.MakeType(out.media, params...), nil
}

func find(params []patternParam, name string) (patternParam, bool) {
	for _, p := range params {
		if p.name == name {
			return p, true
		}
	}
	return patternParam{}, false
}
