package plan

// frontKey is what the future of an unfinished chain depends on, beside its labels.
type frontKey struct {
	open  int32
	mask  uint32
	rides uint32
}

// frontier holds, by node, labels of chains with the same future that were taken before.
type frontier struct {
	at map[int32]*reached
}

type reached struct {
	val    []float64
	length []int8
}

// dominated drops the labels of an entry that an earlier one with the same future is at least as good as, at the same
// node with no more steps; it reports whether none is left.
func (s *search) dominated(e *entry) bool {
	p, st := s.p, s.p.stride()
	key := frontKey{e.open, e.mask, p.opMask[e.op]}
	f := s.seen[key]
	if f == nil {
		f = &frontier{at: make(map[int32]*reached)}
		s.seen[key] = f
	}
	l := e.labels
	kept := &labels{}
	for i, n := range l.nodes {
		r := f.at[n]
		if r == nil {
			r = &reached{}
			f.at[n] = r
		}
		first := len(kept.val)
		for j := int(l.off[i]); j < int(l.off[i+1]); j++ {
			if x := l.val[j*st : (j+1)*st]; r.add(x, e.length, st) {
				kept.val = append(kept.val, x...)
			}
		}
		if len(kept.val) > first {
			kept.nodes, kept.off = append(kept.nodes, n), append(kept.off, int32(first/st))
		}
	}
	if len(kept.nodes) == 0 {
		return true
	}
	kept.off = append(kept.off, int32(len(kept.val)/st))
	e.labels = kept
	return !s.bound(e) // the bound of what is kept may be higher; it is used for the children
}

// add keeps a label unless an earlier one is at least as good.
func (r *reached) add(x []float64, length int8, st int) bool {
	for i := range r.length {
		if r.length[i] <= length && noWorse(r.val[i*st:(i+1)*st], x) {
			return false
		}
	}
	n := 0
	for i := range r.length {
		if length <= r.length[i] && noWorse(x, r.val[i*st:(i+1)*st]) {
			continue
		}
		copy(r.val[n*st:], r.val[i*st:(i+1)*st])
		r.length[n] = r.length[i]
		n++
	}
	r.val, r.length = append(r.val[:n*st], x...), append(r.length[:n], length)
	return true
}
