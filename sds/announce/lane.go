package announce

import (
	"net/netip"
	"time"
)

// lane is where the key blocks of strangers wait to be opened: opening one costs a hundred times what sending one
// costs, so there is one bounded lane for all of them, charged to nobody's name. When it is full, one drawn at random
// makes room: a flood takes every stranger's chance alike, and no known sender's. Who is dropped comes again, or by
// a stream. It is pure.
type lane struct {
	size    int
	random  func() uint64
	waiting map[laneKey]*stranger
	order   []*stranger
}

// laneKey tells strangers apart. The address is in it so that a forger elsewhere cannot replace one half of another's.
type laneKey struct {
	handle uint64
	from   netip.AddrPort
}

// stranger is a key block and the hello that makes sense of it; either may come first, and is empty until then.
type stranger struct {
	key          laneKey
	block, hello []byte
	since        time.Time
}

func newLane(size int, random func() uint64) *lane {
	return &lane{size: size, random: random, waiting: map[laneKey]*stranger{}}
}

func (s *stranger) whole() bool { return len(s.block) > 0 && len(s.hello) > 0 }

// add takes one half. It says whether both halves are there now.
func (l *lane) add(key laneKey, kind byte, datagram []byte, now time.Time) (whole bool) {
	s := l.waiting[key]
	if s == nil {
		s = &stranger{}
		if len(l.order) >= l.size { // who makes room leaves its memory too: a flood must not make garbage
			i := int(l.random() % uint64(len(l.order)))
			s = l.order[i]
			l.remove(i)
		}
		*s = stranger{key: key, since: now, block: s.block[:0], hello: s.hello[:0]}
		l.waiting[key] = s
		l.order = append(l.order, s)
	}
	half := &s.hello
	if kind == kindKeyBlock {
		half = &s.block
	}
	if len(*half) == 0 {
		*half = append(*half, datagram...)
	}
	return s.whole()
}

// next takes out one that is whole, if there is one, and forgets halves older than patience. It looks from a random
// place on, so that nobody's place is better than another's.
func (l *lane) next(now time.Time, patience time.Duration) *stranger {
	if len(l.order) == 0 {
		return nil
	}
	i := int(l.random() % uint64(len(l.order)))
	for range len(l.order) {
		if i >= len(l.order) {
			i = 0
		}
		s := l.order[i]
		switch {
		case s.whole():
			l.remove(i)
			return s
		case now.Sub(s.since) > patience:
			l.remove(i)
		default:
			i++
		}
	}
	return nil
}

// remove takes out the one at place i, which the last one then has.
func (l *lane) remove(i int) {
	last := len(l.order) - 1
	delete(l.waiting, l.order[i].key)
	l.order[i], l.order[last] = l.order[last], nil
	l.order = l.order[:last]
}
