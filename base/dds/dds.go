// Package dds is the distributed data structure of one node: durable tables, in one file (Gribble et al., OSDI 2000: "a
// DDS ... presents a conventional single-site data structure interface to service authors"). It stands on bbolt, and adds
// revisions, compare-and-set, group commit, watches, keys that go by themselves, and leases with fencing tokens. Server
// and Client serve it to other processes over gRPC. Rooms that keep state declare the small Store they need; an Engine
// and a Client meet it.
package dds

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Bounds of what a table holds.
const (
	MaxTable = 64      // bytes of a table's name
	MaxKey   = 1 << 10 // bytes
	MaxValue = 1 << 20 // bytes
)

// ErrClosed is returned by every call on a closed Engine.
var ErrClosed = errors.New("the store is closed")

// ErrRefused is wrapped by the error of every call that is over a bound or does not make sense: it will never succeed.
var ErrRefused = errors.New("refused by the store")

// Engine is an open file of tables. A table begins with its first key. Every change has a revision, one sequence for the
// whole engine. What a call has acknowledged survives the process and the machine. All operations are linearizable. It is
// safe for use by many goroutines; a second process is refused.
type Engine struct {
	Writes
	db *bbolt.DB

	mu     sync.Mutex // guards queue
	queue  []*change
	commit sync.Mutex // held by the one that commits the queue, and to look at a moment between two commits

	// guarded by commit
	revision uint64
	watchers map[*watcher]struct{}
	leases   leases
	timer    *time.Timer // calls expire when the next lease may end
	closed   bool
}

// meta is the bucket that holds the engine's own facts: the name is one that no table can have.
var (
	meta        = []byte{0}
	keyRevision = []byte("revision")
)

// lockWait is how long Open waits for another process to let go of the file.
const lockWait = time.Second

// Open opens the file, or makes it, readable by its user only.
func Open(path string) (*Engine, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open the tables: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open the tables in %s: another process uses them: stop it, or use another state directory", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the tables in %s: %w", path, err)
	}
	e := &Engine{db: db, watchers: map[*watcher]struct{}{}, leases: leases{by: map[name]*lease{}}}
	e.Writes = Writes{e}
	err = db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(meta); b != nil {
			if v := b.Get(keyRevision); len(v) == 8 {
				e.revision = binary.BigEndian.Uint64(v)
			}
		}
		return e.loadLeases(tx)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the tables in %s: %w", path, err), db.Close())
	}
	e.commit.Lock() // the timer's function takes it too
	defer e.commit.Unlock()
	e.timer = time.AfterFunc(MaxTTL, e.expire)
	e.wakeAtNext(time.Now())
	return e, nil
}

// Close ends all watches, waits for the writes that have begun, and closes the file.
func (e *Engine) Close() error {
	e.commit.Lock()
	defer e.commit.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.timer.Stop()
	for w := range e.watchers {
		close(w.closed)
	}
	clear(e.watchers)
	return e.db.Close()
}

// check refuses what the engine does not keep.
func check(table, key string, value []byte) error {
	switch {
	case table == "" || len(table) > MaxTable || table[0] == 0:
		return fmt.Errorf("%w: table %.80q: want 1 to %d bytes, the first not zero", ErrRefused, table, MaxTable)
	case key == "" || len(key) > MaxKey:
		return fmt.Errorf("%w: table %s: a key of %d bytes: want 1 to %d", ErrRefused, table, len(key), MaxKey)
	case !utf8.ValidString(table) || !utf8.ValidString(key):
		return fmt.Errorf("%w: table %.80q, key %.80q: not UTF-8", ErrRefused, table, key)
	case len(value) > MaxValue:
		return fmt.Errorf("%w: table %s, key %.80q: a value of %d bytes, at most %d", ErrRefused, table, key, len(value), MaxValue)
	}
	return nil
}

// checkPrefix is check for the beginning of keys, which may be empty.
func checkPrefix(table, prefix string) error {
	if prefix == "" {
		prefix = "x"
	}
	return check(table, prefix, nil)
}

// A stored value is
//
//	revision(8) value
//
// in big-endian.
func pack(revision uint64, value []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(value)), revision), value...)
}

func unpack(stored []byte) (value []byte, revision uint64) {
	if len(stored) < 8 {
		return nil, 0
	}
	return stored[8:], binary.BigEndian.Uint64(stored)
}

// Get returns a copy of the value and its revision; revision 0 means that there is none.
func (e *Engine) Get(ctx context.Context, table, key string) (value []byte, revision uint64, err error) {
	if err := errors.Join(ctx.Err(), check(table, key, nil)); err != nil {
		return nil, 0, err
	}
	err = e.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(table)); b != nil {
			value, revision = unpack(b.Get([]byte(key)))
			value = append([]byte(nil), value...)
		}
		return nil
	})
	return value, revision, e.wrap(err, table)
}

// page is how many keys List reads in one transaction.
const page = 512

// List calls each for every key with the prefix, in the order of their bytes. It reads some hundred keys at a time, so
// that each may take its time and use the engine; a change made meanwhile may or may not be seen. The value is each's to
// keep. An error of each ends the list and is returned as it is.
func (e *Engine) List(ctx context.Context, table, prefix string, each func(key string, value []byte, revision uint64) error) error {
	for from, more := prefix, true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := e.page(table, prefix, from)
		if err != nil {
			return err
		}
		for _, n := range entries {
			if err := each(n.key, n.value, n.revision); err != nil {
				return err
			}
			from = n.key + "\x00"
		}
		more = len(entries) == page
	}
	return nil
}

type entry struct {
	key      string
	value    []byte
	revision uint64
}

// page reads some entries, beginning with the key from.
func (e *Engine) page(table, prefix, from string) (entries []entry, err error) {
	if err := checkPrefix(table, prefix); err != nil {
		return nil, err
	}
	err = e.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(table))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Seek([]byte(from)); k != nil && strings.HasPrefix(string(k), prefix) && len(entries) < page; k, v = c.Next() {
			value, revision := unpack(v)
			entries = append(entries, entry{string(k), append([]byte(nil), value...), revision})
		}
		return nil
	})
	return entries, e.wrap(err, table)
}

func (e *Engine) wrap(err error, table string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return ErrClosed
	}
	return fmt.Errorf("table %s: %w", table, err)
}
