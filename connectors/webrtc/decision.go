package webrtc

import "sync"

// decision guards what the Read of a hop decides by.
type decision struct {
	mu   sync.Mutex
	wake chan struct{} // has room for one
}

func newDecision() decision { return decision{wake: make(chan struct{}, 1)} }

// change changes what Read decides by and makes a Read that waits decide again.
func (d *decision) change(f func()) {
	d.mu.Lock()
	f()
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
