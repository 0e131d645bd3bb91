// Package splice makes one stream of the hops of successive epochs of a path: the receiving end of a hop takes a second
// sender while the first still sends, and its reader sees neither a second stream nor a gap in its count.
//
// The senders share the stream out between them: each ADU is written to one of them only, the later ones to the later
// sender, so that there is nothing to remove twice. What remains is order and the count. A Reader hands out what the first
// sender has sent to its end, then what the next has, whichever came first, and counts on. Every sender has a hop of its
// own, with keys of its own; any transport will do, and they may differ. A path that changes faster than its senders come to
// their ends has some more of them, which take their turns.
package splice

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ninja/connectors"
)

// Bounds.
const (
	// Ahead is how many ADUs of the next sender are held while the first goes on; beyond them its hop holds it back, or
	// loses, as it does whenever a reader is slow.
	Ahead = 256
	// Patience is how long a first sender may be silent, while a later one sends already and the reader waits, before it
	// is given up, unless Follow says otherwise. It bounds what a sender costs that died without a word.
	Patience = 500 * time.Millisecond
	// Senders is how many may wait for their turn.
	Senders = 8
)

// ErrBusy is returned by Follow while Senders wait for their turn already.
var ErrBusy = errors.New("too many senders wait for their turn")

// Reader is a receiving end whose sender may change. Its methods may be called as those of any connectors.Reader, Follow
// and Busy by any goroutine.
type Reader struct {
	// farewells are those to senders that are gone.
	farewells sync.WaitGroup
	// The goroutine that reads alone uses these: base is what the sender's count is short of the one handed out, last what
	// was handed out.
	base, last uint64
	fresh      bool // the sender's first ADU has still to come

	mu       sync.Mutex
	now      connectors.Reader
	next     []*feed // in the order of their turns
	patience time.Duration
	held     []item           // what was read of the sender before it was its turn
	over     *item            // how the sender's stream ended
	past     connectors.Stats // of senders that are gone
	closed   bool
	// given is the context of the last Read, turn the one that it reads under: it ends too when the next sender begins.
	given, turn context.Context
	end         context.CancelFunc
}

// item is what a Read returned.
type item struct {
	adu connectors.ADU
	err error
}

func delivers(it item) bool { return it.err == nil }

// New makes a Reader of a first sender, which it closes when it is closed.
func New(first connectors.Reader) *Reader {
	return &Reader{now: first}
}

// Busy reports whether there is more than one sender now.
func (r *Reader) Busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.next) > 0 || r.closed
}

// Follow adds the next sender, which the Reader closes. The patience is with those before it; zero is Patience. After an
// error the sender is still the caller's.
func (r *Reader) Follow(next connectors.Reader, patience time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return connectors.ErrClosed
	case len(r.next) == Senders:
		return ErrBusy
	}
	if r.patience = patience; patience <= 0 {
		r.patience = Patience
	}
	r.next = append(r.next, newFeed(next, r.wake))
	return nil
}

// wake has a reader that waits for the first sender know that the next one sends.
func (r *Reader) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		r.end()
	}
	r.given = nil
}

// Read implements connectors.Reader.
func (r *Reader) Read(ctx context.Context) (connectors.ADU, error) {
	for {
		it, held, from, turn, done := r.begin(ctx)
		if !held {
			it.adu, it.err = from.Read(turn)
		}
		// An error when only the turn has ended: the next sender has begun, unless the first was silent for too long.
		woken := turn.Err() != nil && !errors.Is(context.Cause(turn), errSilent)
		done()
		switch {
		case it.err == nil:
			return r.count(it.adu), nil
		case !held && ctx.Err() != nil:
			return it.adu, it.err
		case !held && woken:
		case !r.change(it):
			return it.adu, it.err
		}
	}
}

var errSilent = errors.New("the first sender is silent")

// begin returns what is held already, or what to read now and under which context.
func (r *Reader) begin(ctx context.Context) (it item, held bool, from connectors.Reader, turn context.Context, done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done = func() {}
	switch {
	case len(r.held) > 0:
		it, r.held = r.held[0], r.held[1:]
		return it, true, r.now, ctx, done
	case r.over != nil:
		return *r.over, true, r.now, ctx, done
	case slices.ContainsFunc(r.next, (*feed).begun):
		turn, done := context.WithTimeoutCause(ctx, r.patience, errSilent)
		return it, false, r.now, turn, done
	}
	if r.given != ctx || r.turn.Err() != nil { // mostly it is the same one each time
		if r.end != nil {
			r.end()
		}
		r.given = ctx
		r.turn, r.end = context.WithCancel(ctx)
	}
	return it, false, r.now, r.turn, done
}

// count gives an ADU its place in the one count.
func (r *Reader) count(a connectors.ADU) connectors.ADU {
	if r.fresh {
		r.base, r.fresh = r.last+1-a.Seq, false
	}
	a.Seq += r.base
	r.last = a.Seq
	return a
}

// change goes over to the next sender, if there is one; over is how the present one ended.
func (r *Reader) change(over item) bool {
	r.mu.Lock()
	if len(r.next) == 0 {
		r.over = &over
		r.mu.Unlock()
		return false
	}
	next := r.next[0]
	r.mu.Unlock()
	held := next.take() // waits for its goroutine, which may be about to wake this Reader
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	old := r.now
	r.past = r.stats()
	r.past.Link, r.past.Jitter = 0, 0
	r.now, r.next, r.held, r.over, r.fresh = next.from, r.next[1:], held, nil, true
	// A farewell may take a second; the data does not wait for it.
	r.farewells.Go(func() { old.Close() })
	return true
}

// Signal implements connectors.Reader. While there are several senders all are told; the error is the last one's.
func (r *Reader) Signal(e connectors.Event) error {
	r.mu.Lock()
	now, next := r.now, r.next
	if e.Kind == connectors.Flush {
		r.held = slices.DeleteFunc(r.held, delivers)
		for _, f := range next {
			f.drop()
		}
	}
	r.mu.Unlock()
	err := now.Signal(e)
	for _, f := range next {
		err = f.from.Signal(e)
	}
	return err
}

// Close implements connectors.Reader.
func (r *Reader) Close() error {
	r.mu.Lock()
	now, next, end := r.now, r.next, r.end
	r.closed = true
	r.mu.Unlock()
	if end != nil {
		end()
	}
	r.farewells.Wait()
	err := now.Close()
	for _, f := range next {
		f.take()
		err = errors.Join(err, f.from.Close())
	}
	return err
}

// Stats implements connectors.Measured: what all senders have sent so far, and the link of the present one.
func (r *Reader) Stats() connectors.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats()
}

func (r *Reader) stats() connectors.Stats {
	s := r.past
	if m, ok := r.now.(connectors.Measured); ok {
		now := m.Stats()
		s.ADUs, s.Bytes = s.ADUs+now.ADUs, s.Bytes+now.Bytes
		s.Lost, s.Late = s.Lost+now.Lost, s.Late+now.Late
		s.Link, s.Jitter = now.Link, now.Jitter
	}
	return s
}
