package sds

import (
	"maps"
	"slices"
	"strings"

	"ninja/capability"
)

// reclass moves services whose ACL has changed to the class that they now belong to.
func (s *store) reclass(ids []string) {
	for _, id := range ids {
		e := s.services[id]
		if e == nil {
			continue
		}
		to := s.classOf(e.record)
		if to.key == e.class.key {
			continue
		}
		from := e.class
		s.editor(from).Remove(e.slot)
		e.slot = s.editor(to).Add(&e.Doc)
		e.class = to
		s.changes = append(s.changes, change{id: id, before: e.record, after: e.record, closed: from, visible: to})
	}
}

// checkFresh looks at every service again when the ACLs have become trustworthy again: while they were not, services
// that came were classed as their owners' alone. (What was there before needed no move: see Server.publisher.)
func (s *store) checkFresh() {
	if s.cfg.ACLs == nil || s.cfg.ACLs.Fresh() == s.open {
		return
	}
	s.open = !s.open
	s.cfg.Log.Warn("access lists", "fresh", s.open)
	if s.open {
		s.reclass(slices.Sorted(maps.Keys(s.services)))
	}
}

// classOf is the class that a service belongs to under its present ACL.
func (s *store) classOf(r *record) *class {
	who := []capability.Who{capability.Who(r.Owner)}
	if s.cfg.ACLs != nil {
		if acl := s.cfg.ACLs.ACL(r.ID); acl != nil {
			for _, e := range acl.Entries {
				if e.Ops&capability.Find != 0 {
					who = append(who, e.Who)
				}
			}
		}
	}
	if slices.Contains(who, capability.Everyone) {
		who = []capability.Who{capability.Everyone}
	}
	slices.Sort(who)
	who = slices.Compact(who)
	parts := make([]string, len(who))
	for i, w := range who {
		parts[i] = string(w)
	}
	return s.known(&class{key: strings.Join(parts, "\n"), who: who})
}

// known is the one copy of a class that has services.
func (s *store) known(c *class) *class {
	if e := s.editors[c.key]; e != nil {
		return e.class
	}
	if d, ok := s.snapshot.Load().find(c); ok {
		return d.class
	}
	return c
}
