package tree

import "sync"

// crew is goroutines that are waited for. Unlike with a sync.WaitGroup another one may begin while somebody waits, and
// when there were none: a question can still come in over a stream while the server is being stopped.
type crew struct {
	mu    sync.Mutex
	n     int
	empty *sync.Cond // nil until somebody waits
}

// Go runs f.
func (c *crew) Go(f func()) {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	go func() {
		defer c.leave()
		f()
	}()
}

func (c *crew) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.empty != nil {
		c.empty.Broadcast()
	}
}

// Wait returns once there are none.
func (c *crew) Wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.empty == nil {
		c.empty = sync.NewCond(&c.mu)
	}
	for c.n > 0 {
		c.empty.Wait()
	}
}
