package capability

import (
	"slices"

	"ninja/ca"
)

// state is all that the manager knows, in memory. It has no lock, clock or disk.
type state struct {
	acls    map[string]*ACL    // by service
	groups  map[string][]ca.ID // sorted
	revoked map[ca.ID]uint64   // capabilities of the principal below this epoch no longer hold
	epoch   uint64             // the highest of revoked, which new capabilities carry
	member  map[ca.ID][]string // groups of a principal, sorted: groups the other way round
	domain  string             // of the manager
	guests  map[string][]ca.ID // of groups, the members that belong to other domains
}

func newState(domain string) *state {
	return &state{
		acls: map[string]*ACL{}, groups: map[string][]ca.ID{}, revoked: map[ca.ID]uint64{}, member: map[ca.ID][]string{},
		domain: domain, guests: map[string][]ca.ID{},
	}
}

// acl returns the service's ACL, or an empty one of version 0.
func (s *state) acl(service string) *ACL {
	if a, ok := s.acls[service]; ok {
		return a
	}
	return &ACL{Service: service}
}

// setGroup replaces the members and returns those who are no longer one.
func (s *state) setGroup(name string, members []ca.ID) (removed []ca.ID) {
	members = slices.Compact(slices.Sorted(slices.Values(members)))
	for _, m := range s.groups[name] {
		if _, still := slices.BinarySearch(members, m); !still {
			removed = append(removed, m)
		}
		s.member[m] = slices.DeleteFunc(s.member[m], func(g string) bool { return g == name })
		if len(s.member[m]) == 0 {
			delete(s.member, m)
		}
	}
	for _, m := range members {
		i, _ := slices.BinarySearch(s.member[m], name)
		s.member[m] = slices.Insert(s.member[m], i, name)
	}
	if s.groups[name] = members; len(members) == 0 {
		delete(s.groups, name)
	}
	guests := slices.DeleteFunc(slices.Clone(members), func(m ca.ID) bool { return m.Domain() == s.domain })
	if s.guests[name] = guests; len(guests) == 0 {
		delete(s.guests, name)
	}
	return removed
}

// revoke ends what the principal holds now and returns the epoch from which its new capabilities hold.
func (s *state) revoke(principal ca.ID) uint64 {
	s.setRevoked(principal, s.epoch+1)
	return s.epoch
}

func (s *state) setRevoked(principal ca.ID, epoch uint64) {
	s.revoked[principal] = epoch
	s.epoch = max(s.epoch, epoch)
}

// grants are whom ACL entries may name to reach the principal.
func (s *state) grants(principal ca.ID) []Who {
	grants := []Who{Who(principal), Everyone}
	for _, g := range s.member[principal] {
		grants = append(grants, Group(g))
	}
	return grants
}
