package dds

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Write is one change of one key.
type Write struct {
	Table, Key string
	Value      []byte
	// Delete removes the key. Value and TTL are then empty.
	Delete bool
	// Expect, if not nil, is the revision that the key must have, 0 for no such key; otherwise nothing is written.
	Expect *uint64
	// TTL is for how long the key stays unless it is written or renewed: see Renew. Zero is for good.
	TTL time.Duration
	// Fence, if not nil, must hold; otherwise nothing is written, and the error is ErrFenced.
	Fence *Fence
}

// Fence is a key that must have a revision at the moment of a write: the lease under which the writer acts. Whoever lost
// the lease, and does not know it yet, writes nothing any more.
type Fence struct {
	Table, Key string
	Revision   uint64
}

// Written is what became of a Write.
type Written struct {
	// Done: the key was changed. Not so if it did not have the expected revision, or was to be deleted and is not there.
	Done bool
	// Revision is that of the key now; 0 is no such key.
	Revision uint64
}

// ErrFenced is the error of a write whose fence did not hold.
var ErrFenced = errors.New("the lease that the write was made under is lost")

// Bounds of a TTL.
const (
	MinTTL = 50 * time.Millisecond
	MaxTTL = 7 * 24 * time.Hour
)

// Check says what is wrong with the write.
func (w *Write) Check() error {
	if err := check(w.Table, w.Key, w.Value); err != nil {
		return err
	}
	switch {
	case w.TTL != 0 && (w.TTL < MinTTL || w.TTL > MaxTTL):
		return fmt.Errorf("%w: table %s, key %.80q: a life of %v: want %v to %v, or 0 for good", ErrRefused, w.Table, w.Key, w.TTL, MinTTL, MaxTTL)
	case w.Delete && (w.TTL != 0 || w.Value != nil):
		return fmt.Errorf("%w: table %s, key %.80q: a deletion with a value or a life", ErrRefused, w.Table, w.Key)
	case w.Fence != nil && w.Fence.Revision == 0:
		return fmt.Errorf("%w: table %s, key %.80q: a fence without revision: name the one that the lease was acquired with", ErrRefused, w.Table, w.Key)
	case w.Fence != nil:
		return check(w.Fence.Table, w.Fence.Key, nil)
	}
	return nil
}

// Writer carries out writes.
type Writer interface {
	Write(ctx context.Context, w Write) (Written, error)
}

// Writes are the usual writes in terms of the one that there is. Engine and Client have them.
type Writes struct{ to Writer }

// Put sets a key and returns the revision of the change, when it is on disk.
func (w Writes) Put(ctx context.Context, table, key string, value []byte) (revision uint64, err error) {
	done, err := w.to.Write(ctx, Write{Table: table, Key: key, Value: value})
	return done.Revision, err
}

// PutFor is Put for a time: see Write.TTL.
func (w Writes) PutFor(ctx context.Context, table, key string, value []byte, ttl time.Duration) (revision uint64, err error) {
	done, err := w.to.Write(ctx, Write{Table: table, Key: key, Value: value, TTL: ttl})
	return done.Revision, err
}

// Delete removes a key, if it is there, and returns when that is on disk.
func (w Writes) Delete(ctx context.Context, table, key string) error {
	_, err := w.to.Write(ctx, Write{Table: table, Key: key, Delete: true})
	return err
}

// CompareAndSet sets a key if its revision is expect, where 0 is no such key. It returns the key's revision after that,
// whether or not it was set.
func (w Writes) CompareAndSet(ctx context.Context, table, key string, value []byte, expect uint64) (revision uint64, swapped bool, err error) {
	done, err := w.to.Write(ctx, Write{Table: table, Key: key, Value: value, Expect: &expect})
	return done.Revision, done.Done, err
}

// CompareAndDelete removes a key if its revision is expect, and says whether it did.
func (w Writes) CompareAndDelete(ctx context.Context, table, key string, expect uint64) (deleted bool, err error) {
	done, err := w.to.Write(ctx, Write{Table: table, Key: key, Delete: true, Expect: &expect})
	return done.Done, err
}

// Acquire takes a lease: it makes the key, for a time, if it is not there. Its revision is the fencing token: greater
// than that of every lease before it, so that a resource outside the store can refuse any token but the greatest that it
// has seen, and a write inside names it as its Fence. Keep the lease with Renew, give it back with CompareAndDelete; Hold
// does both.
func (w Writes) Acquire(ctx context.Context, table, key string, holder []byte, ttl time.Duration) (token uint64, acquired bool, err error) {
	done, err := w.to.Write(ctx, Write{Table: table, Key: key, Value: holder, TTL: ttl, Expect: new(uint64)})
	if !done.Done {
		done.Revision = 0
	}
	return done.Revision, done.Done, err
}

// change is one write on its way to the disk.
type change struct {
	Write
	Written
	settled bool
	err     error
}

// maxGroup bounds how many writes share one commit.
const maxGroup = 1024

// Write carries out a write and returns when it is on disk. It queues it and sees to it that it is committed: by whoever
// holds the commit lock next, together with all that was queued meanwhile. So one fsync serves all who wait, and a lone
// writer waits for nobody. A write that has begun is not abandoned when ctx ends.
func (e *Engine) Write(ctx context.Context, w Write) (Written, error) {
	if err := errors.Join(ctx.Err(), w.Check()); err != nil {
		return Written{}, err
	}
	c := &change{Write: w}
	e.mu.Lock()
	e.queue = append(e.queue, c)
	e.mu.Unlock()

	e.commit.Lock()
	defer e.commit.Unlock()
	for !c.settled { // more than once only if the queue is longer than a group
		e.commitGroup(e.group())
	}
	return c.Written, c.err
}

// group takes the next writes off the queue.
func (e *Engine) group() []*change {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(len(e.queue), maxGroup)
	group := e.queue[:n:n]
	e.queue = e.queue[n:]
	return group
}

// commitGroup carries out writes in one transaction and tells the watchers. Called with the commit lock held.
func (e *Engine) commitGroup(group []*change) {
	revision := e.revision
	var changed []*change
	var events []event
	err := ErrClosed
	if !e.closed {
		err = e.db.Update(func(tx *bbolt.Tx) error {
			for _, c := range group {
				if err := c.apply(tx, revision+1); err != nil {
					return err
				}
				if c.Done {
					revision++
					changed = append(changed, c)
					events = append(events, event{c.Table, Event{Kind: c.kind(), Key: c.Key, Value: c.Value, Revision: revision}})
				}
			}
			return putRevision(tx, revision)
		})
	}
	for _, c := range group {
		c.settled = true
		if err != nil {
			c.err, c.Written = e.wrap(err, c.Table), Written{}
		}
	}
	if err == nil {
		e.revision = revision
		e.lease(changed)
		e.tell(events)
	}
}

func (c *change) kind() Kind {
	if c.Delete {
		return Deleted
	}
	return Set
}

// apply carries out one write under a revision. An error ends the transaction of all; what is wrong with this write alone
// is in c.err.
func (c *change) apply(tx *bbolt.Tx, revision uint64) error {
	if f := c.Fence; f != nil && revisionOf(tx, f.Table, f.Key) != f.Revision {
		c.err = fmt.Errorf("table %s, key %.80q: %w: %s/%.80q", c.Table, c.Key, ErrFenced, f.Table, f.Key)
		return nil
	}
	c.Revision = revisionOf(tx, c.Table, c.Key)
	if c.Expect != nil && c.Revision != *c.Expect || c.Delete && c.Revision == 0 {
		return nil
	}
	c.Done = true
	if err := putTTL(tx, c.Table, c.Key, c.TTL); err != nil {
		return err
	}
	b, err := tx.CreateBucketIfNotExists([]byte(c.Table))
	if err != nil {
		return err
	}
	if c.Delete {
		c.Revision = 0
		return b.Delete([]byte(c.Key))
	}
	c.Revision = revision
	return b.Put([]byte(c.Key), pack(revision, c.Value))
}

func revisionOf(tx *bbolt.Tx, table, key string) uint64 {
	b := tx.Bucket([]byte(table))
	if b == nil {
		return 0
	}
	_, revision := unpack(b.Get([]byte(key)))
	return revision
}

func putRevision(tx *bbolt.Tx, revision uint64) error {
	b, err := tx.CreateBucketIfNotExists(meta)
	if err != nil {
		return err
	}
	return b.Put(keyRevision, binary.BigEndian.AppendUint64(nil, revision))
}
