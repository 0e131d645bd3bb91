package sds

import (
	"maps"
	"slices"
	"strings"

	"ninja/capability"
	"ninja/sds/index"
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
		e.slot = s.editor(to).Add(&index.Doc{Owner: string(e.owner), Tree: e.tree, Item: e.record})
		e.class = to
		s.changes = append(s.changes, change{id: id, before: e.record, after: e.record, closed: from, visible: to})
	}
}

// checkFresh closes everything to its owner when the ACLs are too old, and opens it again when they are not.
func (s *store) checkFresh() {
	if s.cfg.ACLs == nil || s.cfg.ACLs.Fresh() == s.open {
		return
	}
	s.open = !s.open
	s.cfg.Log.Warn("access lists", "fresh", s.open)
	s.reclass(slices.Sorted(maps.Keys(s.services)))
}

// classOf is the class that a service belongs to under its present ACL.
func (s *store) classOf(r *record) *class {
	who := []capability.Who{capability.Who(r.owner)}
	if s.open && s.cfg.ACLs != nil {
		if acl := s.cfg.ACLs.ACL(r.id()); acl != nil {
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
	return &class{key: strings.Join(parts, "\n"), who: who}
}
