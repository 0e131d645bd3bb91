package sds

import (
	"sync"

	"ninja/ca"
	"ninja/sds/sdspb"
)

// refusals remembers, for publishers who ask, what was refused of theirs lately.
type refusals struct {
	mu sync.Mutex
	by map[ca.ID][]*sdspb.Refusal
}

// Bounds of what is remembered.
const (
	refusalOwners = 1024
	refusalsEach  = 8
	refusalDetail = 512
)

func (r *refusals) add(owner ca.ID, x *sdspb.Refusal) {
	x.Detail = x.Detail[:min(len(x.Detail), refusalDetail)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = make(map[ca.ID][]*sdspb.Refusal)
	}
	if _, known := r.by[owner]; !known && len(r.by) >= refusalOwners {
		for forgotten := range r.by { // any one: maps are walked at random
			delete(r.by, forgotten)
			break
		}
	}
	list := append(r.by[owner], x)
	r.by[owner] = list[max(0, len(list)-refusalsEach):]
}

func (r *refusals) of(owner ca.ID) []*sdspb.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*sdspb.Refusal(nil), r.by[owner]...)
}
