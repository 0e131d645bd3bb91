package sds

import "ninja/ca"

// owner is what the store keeps of each principal that has services in it.
type owner struct {
	services int
	unwatch  func() // stops waiting for its ban
}

// own counts one more service of a principal. With its first the store begins to wait for its ban, which withdraws them
// all: soft state would outlive its owner by five periods.
func (s *store) own(id ca.ID) {
	o := s.owned[id]
	if o.services++; o.services == 1 {
		o.unwatch = s.cfg.Identity.OnBan(id, func() { _ = s.do(func() { s.banish(id) }) })
	}
	s.owned[id] = o
}

// disown counts one less.
func (s *store) disown(id ca.ID) {
	o := s.owned[id]
	if o.services--; o.services > 0 {
		s.owned[id] = o
		return
	}
	o.unwatch()
	delete(s.owned, id)
}

// banish removes all services of a principal.
func (s *store) banish(id ca.ID) {
	for key, e := range s.services {
		if e.owner() == id {
			s.remove(key, e)
		}
	}
}
