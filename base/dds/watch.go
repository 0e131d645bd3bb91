package dds

import (
	"bytes"
	"context"
	"strings"
)

// Kind is what an Event tells.
type Kind uint8

// A watch brings Reset, Set for every key there is, Synced, and from then on Set and Deleted for every change in the order
// of revisions. When the watcher falls too far behind it begins again with Reset.
const (
	Reset   Kind = iota // forget all: what there is follows
	Set                 // the key has this value
	Deleted             // the key is gone
	Synced              // all there was at this revision has been told
)

// Event is one step of a watch.
type Event struct {
	Kind     Kind
	Key      string
	Value    []byte // the watcher's to read, not to change
	Revision uint64 // of the change; for Synced, of the engine
}

// event is an Event with its table.
type event struct {
	table string
	Event
}

// maxBehind bounds the events that wait for one watcher.
const maxBehind = 1024

// watcher is one running Watch.
type watcher struct {
	table, prefix string
	events        chan Event
	lost          chan struct{} // closed when events overflowed; the watcher is not told any more until it begins again
	closed        chan struct{}
}

// Watch calls each for all that is and then becomes of the keys with a prefix, until ctx or the engine ends or each
// returns an error, which Watch returns. Each may take its time and use the engine: others do not wait for it.
func (e *Engine) Watch(ctx context.Context, table, prefix string, each func(Event) error) error {
	for {
		w, snapshot, err := e.watch(table, prefix)
		if err != nil {
			return err
		}
		again, err := w.run(ctx, snapshot, each)
		e.unwatch(w)
		if !again {
			return err
		}
	}
}

// watch begins a watcher at a moment between two commits, and reads what there is then.
func (e *Engine) watch(table, prefix string) (*watcher, []Event, error) {
	e.commit.Lock()
	defer e.commit.Unlock()
	if e.closed {
		return nil, nil, ErrClosed
	}
	snapshot := []Event{{Kind: Reset}}
	for from, more := prefix, true; more; {
		entries, err := e.page(table, prefix, from)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range entries {
			snapshot = append(snapshot, Event{Kind: Set, Key: n.key, Value: n.value, Revision: n.revision})
			from = n.key + "\x00"
		}
		more = len(entries) == page
	}
	snapshot = append(snapshot, Event{Kind: Synced, Revision: e.revision})
	w := &watcher{
		table: table, prefix: prefix,
		events: make(chan Event, maxBehind), lost: make(chan struct{}), closed: make(chan struct{}),
	}
	e.watchers[w] = struct{}{}
	return w, snapshot, nil
}

func (e *Engine) unwatch(w *watcher) {
	e.commit.Lock()
	defer e.commit.Unlock()
	delete(e.watchers, w)
}

// tell hands the changes of one commit to the watchers. Called with the commit lock held; it never waits.
func (e *Engine) tell(events []event) {
	for w := range e.watchers {
		for _, ev := range events {
			if ev.table == w.table && strings.HasPrefix(ev.Key, w.prefix) && !w.take(ev.Event) {
				close(w.lost)
				delete(e.watchers, w)
				break
			}
		}
	}
}

// take queues an event and says whether there was room. The value is copied: it belongs to the writer.
func (w *watcher) take(ev Event) bool {
	ev.Value = bytes.Clone(ev.Value)
	select {
	case w.events <- ev:
		return true
	default:
		return false
	}
}

// run tells each what there is and what happens. It returns true when it has to begin again.
func (w *watcher) run(ctx context.Context, snapshot []Event, each func(Event) error) (again bool, err error) {
	for _, ev := range snapshot {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if err := each(ev); err != nil {
			return false, err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-w.closed:
			return false, ErrClosed
		case <-w.lost: // what still waits is older than the new beginning
			return true, nil
		case ev := <-w.events:
			if err := each(ev); err != nil {
				return false, err
			}
		}
	}
}
