package tree

import (
	"cmp"
	"maps"
	"slices"

	"ninja/ca"
	"ninja/sds/announce"
)

// family is the extents of a server, the first, and of those that it has spawned, in this order: what services choose
// between. Networks do not count here, since all have the same. It is pure.
type family []announce.Extent

// of is who in the family an owner's services follow: the most specific. Services that none covers, which announce
// themselves to this server all the same, count for the first.
func (f family) of(owner ca.ID) (at int) {
	best := -1
	for i, e := range f {
		if specific, ok := e.CoversOwner(owner); ok && specific > best {
			at, best = i, specific
		}
	}
	return at
}

// has reports whether somebody's part covers an owner and nobody's more so.
func (f family) has(at int, owner ca.ID) bool {
	_, ok := f[at].CoversOwner(owner)
	return ok && f.of(owner) == at
}

// wellSplit is the least share that is worth the naming of kinds: below a quarter the range of owners is halved instead.
const wellSplit = 4

// split chooses the part of one in the family that a new one takes: of kinds of principals, or of owners where kinds
// would split badly. services are all that the family has, by owner. It takes from that one alone, some but not all; not ok:
// all its services are of one owner.
func (f family) split(at int, services map[ca.ID]int) (part announce.Extent, ok bool) {
	mine, kinds, all := make(map[uint32]int), make(map[string]int), 0
	for owner, n := range services {
		if f.has(at, owner) {
			mine[announce.OwnerHash(owner)] += n
			kinds[owner.Kind()] += n
			all += n
		}
	}
	part = announce.Extent{Owners: f[at].Owners, Kinds: someKinds(kinds)}
	n := 0
	for _, k := range part.Kinds {
		n += kinds[k]
	}
	if wellSplit*min(n, all-n) >= all && n > 0 {
		return part, true
	}
	half := halfOf(f[at].Owners, mine)
	if half == f[at].Owners {
		return part, n > 0 && len(part.Kinds) > 0
	}
	return announce.Extent{Owners: half, Kinds: f.kindsWithin(at, half, services)}, true
}

// kindsWithin are the kinds that a range of one in the family is for: all, which is none, unless somebody in the family is for
// some kinds: the range must not take from those.
func (f family) kindsWithin(at int, half announce.Owners, services map[ca.ID]int) []string {
	if !slices.ContainsFunc(f, func(e announce.Extent) bool { return len(e.Kinds) > 0 }) {
		return nil
	}
	kinds := make(map[string]int)
	for owner, n := range services {
		if half.Covers(announce.OwnerHash(owner)) && f.has(at, owner) {
			kinds[owner.Kind()] += n
		}
	}
	out := heaviest(kinds)
	return out[:min(len(out), announce.MaxKinds)]
}

// heaviest are the kinds, those with most services first.
func heaviest(kinds map[string]int) []string {
	return slices.SortedFunc(maps.Keys(kinds), func(a, b string) int { return cmp.Or(cmp.Compare(kinds[b], kinds[a]), cmp.Compare(a, b)) })
}

// someKinds are the kinds of principals that come nearest to half of the services; none when all are of one kind.
func someKinds(kinds map[string]int) (out []string) {
	all := 0
	for _, n := range kinds {
		all += n
	}
	names := heaviest(kinds)
	taken := 0
	for _, k := range names {
		if 2*(taken+kinds[k]) <= all || taken == 0 && len(names) > 1 && k != names[0] {
			out, taken = append(out, k), taken+kinds[k]
		}
	}
	if len(out) == len(names) {
		return nil
	}
	return out[:min(len(out), announce.MaxKinds)]
}

// halfOf is the range within another one that comes nearest to half of the services, given by the hash of the owner; the other
// one itself when all are of one owner.
func halfOf(whole announce.Owners, services map[uint32]int) announce.Owners {
	all := weight(whole, services)
	best, nearest := whole, all
	for at := whole; ; {
		lower, upper := at.Half(false), at.Half(true)
		if lower == at {
			return best
		}
		low, high := weight(lower, services), weight(upper, services)
		if off := max(2*high-all, all-2*high); off < nearest && high > 0 {
			best, nearest = upper, off
		}
		if off := max(2*low-all, all-2*low); off < nearest && low > 0 {
			best, nearest = lower, off
		}
		if at = lower; high > low {
			at = upper
		}
		if 2*max(low, high) <= all {
			return best
		}
	}
}

func weight(o announce.Owners, services map[uint32]int) (n int) {
	for hash, s := range services {
		if o.Covers(hash) {
			n += s
		}
	}
	return n
}
