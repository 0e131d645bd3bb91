package splice

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"ninja/connectors"
)

// feed reads ahead what a sender sends before it is its turn.
type feed struct {
	from   connectors.Reader
	cancel context.CancelFunc
	done   chan struct{} // closed when nothing reads any more
	has    atomic.Bool   // it has sent something
	room   chan struct{} // tokens: what may be read ahead

	mu    sync.Mutex
	items []item
}

// newFeed begins to read; began is called at the first ADU.
func newFeed(from connectors.Reader, began func()) *feed {
	ctx, cancel := context.WithCancel(context.Background()) // until take
	f := &feed{from: from, cancel: cancel, done: make(chan struct{}), room: make(chan struct{}, Ahead)}
	go f.run(ctx, began)
	return f
}

func (f *feed) run(ctx context.Context, began func()) {
	defer close(f.done)
	for {
		select {
		case f.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		a, err := f.from.Read(ctx)
		if err != nil && ctx.Err() != nil {
			return // the Reader goes on from here
		}
		f.mu.Lock()
		f.items = append(f.items, item{a, err})
		f.mu.Unlock()
		if err != nil {
			return
		}
		if !f.has.Swap(true) {
			began()
		}
	}
}

// begun reports whether the sender has sent something.
func (f *feed) begun() bool { return f.has.Load() }

// drop forgets what was read ahead, but not how the stream ended.
func (f *feed) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range f.items {
		<-f.room // each has a token; that of an end is nobody's any more
	}
	f.items = slices.DeleteFunc(f.items, delivers)
}

// take ends the reading ahead and returns what was read.
func (f *feed) take() []item {
	f.cancel()
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items
}
