package dds

import (
	"context"
	"encoding/binary"
	"errors"

	"go.etcd.io/bbolt"
)

// change is one write on its way to the disk.
type change struct {
	table, key string
	value      []byte
	remove     bool
	compare    bool
	expect     uint64

	// the outcome
	done     bool
	revision uint64 // of the key now
	swapped  bool
	err      error
}

// maxGroup bounds how many writes share one commit.
const maxGroup = 1024

// Put sets a key and returns the revision of the change, when it is on disk.
func (e *Engine) Put(ctx context.Context, table, key string, value []byte) (revision uint64, err error) {
	c := &change{table: table, key: key, value: value}
	err = e.write(ctx, c)
	return c.revision, err
}

// Delete removes a key, if it is there, and returns when that is on disk.
func (e *Engine) Delete(ctx context.Context, table, key string) error {
	return e.write(ctx, &change{table: table, key: key, remove: true})
}

// CompareAndSet sets a key if its revision is expect, where 0 is no such key. It returns the key's revision after that,
// whether or not it was set.
func (e *Engine) CompareAndSet(ctx context.Context, table, key string, value []byte, expect uint64) (revision uint64, swapped bool, err error) {
	c := &change{table: table, key: key, value: value, compare: true, expect: expect}
	err = e.write(ctx, c)
	return c.revision, c.swapped, err
}

// write queues a change and sees to it that it is committed: by whoever holds the commit lock next, together with all
// that was queued meanwhile. So one fsync serves all who wait, and a lone writer waits for nobody. A write that has begun
// is not abandoned when ctx ends.
func (e *Engine) write(ctx context.Context, c *change) error {
	if err := errors.Join(ctx.Err(), check(c.table, c.key, c.value)); err != nil {
		return err
	}
	e.mu.Lock()
	e.queue = append(e.queue, c)
	e.mu.Unlock()

	e.commit.Lock()
	defer e.commit.Unlock()
	for !c.done { // more than once only if the queue is longer than a group
		e.commitGroup(e.group())
	}
	return c.err
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
	var events []event
	err := ErrClosed
	if !e.closed {
		err = e.db.Update(func(tx *bbolt.Tx) error {
			for _, c := range group {
				changed, err := c.apply(tx, revision+1)
				if err != nil {
					return err
				}
				if changed {
					revision++
					events = append(events, event{c.table, Event{Kind: c.kind(), Key: c.key, Value: c.value, Revision: revision}})
				}
			}
			return putRevision(tx, revision)
		})
	}
	for _, c := range group {
		c.done = true
		if err != nil {
			c.err, c.revision, c.swapped = e.wrap(err, c.table), 0, false
		}
	}
	if err == nil {
		e.revision = revision
		e.tell(events)
	}
}

func (c *change) kind() Kind {
	if c.remove {
		return Deleted
	}
	return Set
}

// apply carries out one write under a revision and says whether it changed anything.
func (c *change) apply(tx *bbolt.Tx, revision uint64) (bool, error) {
	b, err := tx.CreateBucketIfNotExists([]byte(c.table))
	if err != nil {
		return false, err
	}
	key := []byte(c.key)
	_, c.revision = unpack(b.Get(key))
	switch {
	case c.compare && c.revision != c.expect:
		return false, nil
	case c.remove && c.revision == 0:
		return false, nil
	case c.remove:
		c.revision = 0
		return true, b.Delete(key)
	}
	c.revision, c.swapped = revision, true
	return true, b.Put(key, pack(revision, c.value))
}

func putRevision(tx *bbolt.Tx, revision uint64) error {
	b, err := tx.CreateBucketIfNotExists(meta)
	if err != nil {
		return err
	}
	return b.Put(keyRevision, binary.BigEndian.AppendUint64(nil, revision))
}
