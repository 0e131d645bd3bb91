package capability

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
)

// DefaultHold is how long the last known ACLs rule when the manager cannot be reached.
const DefaultHold = 2 * time.Minute

// Follower has all ACLs at hand, by a watch of the manager, for those who check rights: SDS servers and hosts. When the
// manager cannot be reached the last ACLs hold for a stated time, then it fails closed: no service has an ACL, so that
// only owners may do anything, until the manager is back. Reading takes no lock that a writer holds for long.
type Follower struct {
	cfg     FollowerConfig
	mu      sync.RWMutex
	acls    map[string]*ACL
	revoked map[ca.ID]uint64
	version uint64
	changed chan struct{} // closed and replaced at every change

	heard atomic.Pointer[time.Time] // when all was known; nil: never
}

// ACL returns the service's ACL, or nil if it has none, or if what is known is too old.
func (f *Follower) ACL(service string) *ACL {
	if !f.Fresh() {
		return nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.acls[service]
}

// Revoked says whether capabilities of the principal that were issued at the epoch have been taken back. Revocations
// already heard hold for ever, those not heard while the manager is away end with the capability's life.
func (f *Follower) Revoked(principal ca.ID, epoch uint64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return epoch < f.revoked[principal]
}

// Fresh says whether the manager was heard within the hold time.
func (f *Follower) Fresh() bool {
	heard := f.heard.Load()
	return heard != nil && time.Since(*heard) < f.cfg.Hold
}

// All returns every ACL with a number that grows with each change, and a channel that is closed at the next change: for
// those who keep something made of all of them. The values are shared; the map is the caller's.
func (f *Follower) All() (acls map[string]*ACL, version uint64, changed <-chan struct{}) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.acls), f.version, f.changed
}

// snapshot collects the beginning of a watch, which replaces what was known only when it is whole: a follower whose
// manager has come back never sees a moment without ACLs.
type snapshot struct {
	acls    map[string]*ACL
	revoked map[ca.ID]uint64
}

// apply takes over one message of the watch. The snapshot is nil once it was complete; apply returns it for the next.
func (f *Follower) apply(begun *snapshot, r *pb.WatchResponse) *snapshot {
	if r.Restart {
		begun = &snapshot{map[string]*ACL{}, map[ca.ID]uint64{}}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	into := begun
	if into == nil {
		into = &snapshot{f.acls, f.revoked}
	}
	for _, p := range r.Acls {
		if a := aclFrom(p); a.Version == 0 {
			delete(into.acls, a.Service)
		} else if a.Check() == nil {
			into.acls[a.Service] = a
		} else {
			delete(into.acls, a.Service) // what we cannot read grants nothing
		}
	}
	for _, p := range r.Revocations {
		into.revoked[ca.ID(p.Principal)] = p.Epoch
		// What takes rights away does not wait for a long snapshot to be whole.
		f.revoked[ca.ID(p.Principal)] = max(f.revoked[ca.ID(p.Principal)], p.Epoch)
	}
	if begun != nil && r.Complete {
		f.acls, f.revoked, begun = into.acls, into.revoked, nil
	}
	if begun == nil {
		f.touch(r)
	}
	return begun
}

// touch notes that all is known as of now, and wakes those who wait for changes.
func (f *Follower) touch(r *pb.WatchResponse) {
	if r.Complete {
		now := time.Now()
		f.heard.Store(&now)
	}
	if r.Restart || len(r.Acls) > 0 || len(r.Revocations) > 0 {
		f.version++
		close(f.changed)
		f.changed = make(chan struct{})
	}
}
