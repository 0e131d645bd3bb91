package dds

import (
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// name is where a value is.
type name struct{ table, key string }

// lease is a key that goes by itself.
type lease struct {
	name
	revision uint64 // of the key
	ttl      time.Duration
	ends     time.Time // moves with each renewal
	due      time.Time // its place in the heap: not after ends
	place    int       // index there
}

// leases are all keys with a TTL: by name, and in a heap by when to look at them next. A renewal only moves ends; the
// heap is put right when due comes.
type leases struct {
	by    map[name]*lease
	order byDue
}

type byDue []*lease

func (o byDue) Len() int           { return len(o) }
func (o byDue) Less(i, j int) bool { return o[i].due.Before(o[j].due) }
func (o byDue) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = i, j
}
func (o *byDue) Push(l any) {
	l.(*lease).place = len(*o)
	*o = append(*o, l.(*lease))
}
func (o *byDue) Pop() any {
	last := (*o)[len(*o)-1]
	(*o)[len(*o)-1] = nil
	*o = (*o)[:len(*o)-1]
	return last
}

// drop forgets the lease of a key, if there is one.
func (s *leases) drop(n name) {
	if l := s.by[n]; l != nil {
		heap.Remove(&s.order, l.place)
		delete(s.by, n)
	}
}

// set begins a lease; there must be none of the key.
func (s *leases) set(n name, revision uint64, ttl time.Duration, now time.Time) {
	l := &lease{name: n, revision: revision, ttl: ttl, ends: now.Add(ttl), due: now.Add(ttl)}
	s.by[n] = l
	heap.Push(&s.order, l)
}

// ended lists, at most so many, the leases that have ended.
func (s *leases) ended(now time.Time, most int) (out []*lease) {
	for len(s.order) > 0 && len(out) < most && !now.Before(s.order[0].due) {
		l := s.order[0]
		if now.Before(l.ends) {
			l.due = l.ends
		} else {
			out = append(out, l)
			l.due = now.Add(expireRetry) // in case that its deletion fails
		}
		heap.Fix(&s.order, 0)
	}
	return out
}

// The bucket of TTLs holds
//
//	length of table(1) table key -> ttl(8), nanoseconds, big-endian
//
// for the keys that have one. When a lease ends is kept in memory only: an engine that opens gives each its whole TTL
// again, so that neither a restart nor a jump of the wall clock ends a lease before its holder could renew it.
var bucketTTL = []byte{0, 1}

func nameTTL(table, key string) []byte {
	return append(append([]byte{byte(len(table))}, table...), key...)
}

// putTTL keeps the TTL of a key, 0 for none.
func putTTL(tx *bbolt.Tx, table, key string, ttl time.Duration) error {
	if ttl == 0 {
		if b := tx.Bucket(bucketTTL); b != nil {
			return b.Delete(nameTTL(table, key))
		}
		return nil
	}
	b, err := tx.CreateBucketIfNotExists(bucketTTL)
	if err != nil {
		return err
	}
	return b.Put(nameTTL(table, key), binary.BigEndian.AppendUint64(nil, uint64(ttl)))
}

// loadLeases reads the keys that have a TTL when the engine opens.
func (e *Engine) loadLeases(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketTTL)
	if b == nil {
		return nil
	}
	now := time.Now()
	return b.ForEach(func(k, v []byte) error {
		if len(v) != 8 || len(k) < 2 || int(k[0]) > len(k)-2 {
			return errors.New("the list of leases is damaged")
		}
		n := name{string(k[1 : 1+k[0]]), string(k[1+k[0]:])}
		e.leases.set(n, revisionOf(tx, n.table, n.key), time.Duration(binary.BigEndian.Uint64(v)), now)
		return nil
	})
}

// lease takes note of what was committed. Called with the commit lock held.
func (e *Engine) lease(changed []*change) {
	now := time.Now()
	for _, c := range changed {
		n := name{c.Table, c.Key}
		e.leases.drop(n)
		if c.TTL != 0 {
			e.leases.set(n, c.Revision, c.TTL, now)
		}
	}
	e.wakeAtNext(now)
}

// wakeAtNext sets the timer to when a lease may end.
func (e *Engine) wakeAtNext(now time.Time) {
	if len(e.leases.order) > 0 && !e.closed {
		e.timer.Reset(max(0, e.leases.order[0].due.Sub(now)))
	}
}

// expireRetry is the wait after a deletion that failed.
const expireRetry = time.Second

// expire deletes the keys whose time has come. It is the timer's.
func (e *Engine) expire() {
	e.commit.Lock()
	defer e.commit.Unlock()
	if e.closed {
		return
	}
	now := time.Now()
	var group []*change
	for _, l := range e.leases.ended(now, maxGroup) {
		group = append(group, &change{Write: Write{Table: l.table, Key: l.key, Delete: true, Expect: &l.revision}})
	}
	if len(group) > 0 {
		e.commitGroup(group)
	}
	e.wakeAtNext(now)
}

// Renew gives a key its whole TTL anew, if it still has the revision; false says that it has not. It costs no disk.
// A key goes some time after its TTL, not before it; until then it can be renewed. Whoever acts under a lease counts the
// TTL from before the last Renew that succeeded was sent.
func (e *Engine) Renew(ctx context.Context, table, key string, revision uint64) (bool, error) {
	if err := errors.Join(ctx.Err(), check(table, key, nil)); err != nil {
		return false, err
	}
	e.commit.Lock()
	defer e.commit.Unlock()
	if e.closed {
		return false, ErrClosed
	}
	l := e.leases.by[name{table, key}]
	if l == nil || l.revision != revision {
		return false, nil
	}
	l.ends = time.Now().Add(l.ttl)
	return true, nil
}

// Holding is what Hold needs of a store.
type Holding interface {
	Acquire(ctx context.Context, table, key string, holder []byte, ttl time.Duration) (token uint64, acquired bool, err error)
	Renew(ctx context.Context, table, key string, revision uint64) (bool, error)
	CompareAndDelete(ctx context.Context, table, key string, expect uint64) (deleted bool, err error)
}

// ErrHeld is returned by Hold when another has the lease.
var ErrHeld = errors.New("another holds the lease")

// ErrLost is the cause with which the context of Hold's work ends when the lease may be lost.
var ErrLost = errors.New("the lease is lost")

// Hold acquires a lease, runs the work with its fencing token, renews the lease every third of the TTL meanwhile, and
// gives it back. The work's context ends with the cause ErrLost when the lease is gone or might be by now: work that
// obeys it, and names the token as the Fence of its writes, is never done by two.
func Hold(ctx context.Context, s Holding, table, key string, holder []byte, ttl time.Duration, work func(ctx context.Context, token uint64) error) error {
	until := time.Now().Add(ttl)
	token, acquired, err := s.Acquire(ctx, table, key, holder, ttl)
	if err != nil {
		return err
	}
	if !acquired {
		return fmt.Errorf("table %s, key %.80q: %w", table, key, ErrHeld)
	}
	working, stop := context.WithCancelCause(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		keep(working, s, table, key, token, ttl, until)
		stop(ErrLost)
	}()
	err = work(working, token)
	stop(nil)
	<-kept
	giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl) // after that it is gone by itself
	defer cancel()
	if _, failed := s.CompareAndDelete(giving, table, key, token); err == nil {
		err = failed
	}
	return err
}

// keep renews a lease until ctx ends or the lease may be lost.
func keep(ctx context.Context, s Holding, table, key string, token uint64, ttl time.Duration, until time.Time) {
	ticker := time.NewTicker(max(ttl/3, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(until)):
			return
		case <-ticker.C:
		}
		asked := time.Now()
		renewing, cancel := context.WithDeadline(ctx, until)
		held, err := s.Renew(renewing, table, key, token)
		cancel()
		switch {
		case err == nil && !held:
			return
		case err == nil:
			until = asked.Add(ttl)
		}
	}
}
