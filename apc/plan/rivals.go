package plan

import (
	"math"
	"slices"
)

// rivals are the operators of a signature that a plan may need: of those that are alike but for their costs, the ones
// that no other is as cheap as in everything.
func (p *problem) rivals(sig int32) []int32 {
	if r := p.rival[sig]; r != nil {
		return r
	}
	all := p.t.opsOf[sig]
	if len(all) == 1 {
		return all
	}
	type kind struct {
		places *int32
		rides  uint32
	}
	kinds := make(map[kind][]int32)
	out := make([]int32, 0, 4)
	for _, op := range all {
		if math.IsInf(p.minCost[op], 1) {
			continue
		}
		if p.meets[op] != 0 || p.c.override[op] != nil || len(p.c.ops[op].Data) > 0 || int(op) == p.to {
			out = append(out, op)
			continue
		}
		k := kind{&p.c.places[op][0], p.opMask[op]}
		if len(kinds[k]) < maxRivals {
			kinds[k] = p.cheaper(kinds[k], op)
		} else {
			out = append(out, op)
		}
	}
	for _, set := range kinds {
		out = append(out, set...)
	}
	slices.Sort(out)
	p.rival[sig] = out
	return out
}

// maxRivals bounds the work of comparing operators that are alike.
const maxRivals = 64

func (p *problem) cheaper(set []int32, op int32) []int32 {
	v := p.c.base[op]
	for _, o := range set {
		if w := p.c.base[o]; noWorse(w[:], v[:]) {
			return set
		}
	}
	kept := set[:0]
	for _, o := range set {
		if w := p.c.base[o]; !noWorse(v[:], w[:]) {
			kept = append(kept, o)
		}
	}
	return append(kept, op)
}
