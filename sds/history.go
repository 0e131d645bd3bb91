package sds

import "sync"

// history keeps the latest batches of changes for watchers. A watcher that falls behind it reads everything again, so
// that a slow one costs nothing.
type history struct {
	mu      sync.Mutex
	batches [historyLength][]change
	next    uint64        // number of the next batch
	more    chan struct{} // closed when there is one
}

const historyLength = 1024

func (h *history) init() { h.more = make(chan struct{}) }

func (h *history) add(batch []change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.batches[h.next%historyLength] = batch
	h.next++
	close(h.more)
	h.more = make(chan struct{})
}

// end is the number of the next batch, which a watcher takes before it reads everything.
func (h *history) end() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next
}

// from returns the batches from number at on, and what to wait for when there are none; ok is false when they are
// forgotten already.
func (h *history) from(at uint64) (batches [][]change, next uint64, more <-chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next > at+historyLength {
		return nil, 0, nil, false
	}
	for n := at; n < h.next; n++ {
		batches = append(batches, h.batches[n%historyLength])
	}
	return batches, h.next, h.more, true
}
