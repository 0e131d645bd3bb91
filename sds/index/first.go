package index

// nest is the condition that the path leads to a place that meets where.
func nest(path []*step, where cond) cond {
	for i := len(path) - 1; i >= 0; i-- {
		s := *path[i]
		switch {
		case s.where == nil:
			s.where = where
		case where != nil:
			s.where = all{s.where, where}
		}
		where = &s
	}
	return where
}

// firstOf is met when the first place of a path meets where.
type firstOf struct {
	path  []*step
	where *compare
}

func (f *firstOf) holds(e *evaluator, at ref) bool {
	ok := false
	(&Selector{f.path}).from(e, at, 0, func(r ref) { ok = f.where.holds(e, r) })
	return ok
}

func (f *firstOf) filter(at pattern) filter { return nest(f.path, f.where).filter(at) }
func (f *firstOf) size() int                { return nest(f.path, f.where).size() }
