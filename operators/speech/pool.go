package speech

import (
	"sync"
	"time"
)

// spareLife is how long a spare engine waits for a path; a node that made none for so long will not miss it.
const spareLife = 5 * time.Minute

// pool keeps one engine started and its model loaded ahead of the next path, which then waits for its grammar alone. It
// holds one at most: paths are made one after another far more often than at once, and an engine takes 15 MB.
type pool struct {
	program string
	warm    bool

	mu     sync.Mutex
	spare  *engine // nil when there is none
	expire *time.Timer
}

// take returns a running engine, and sees to the next spare.
func (p *pool) take() (*engine, error) {
	if !p.warm {
		return startEngine(p.program)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.out()
	if e == nil {
		var err error
		if e, err = startEngine(p.program); err != nil {
			return nil, err
		}
	}
	// Starting does not wait for the model. A spare that cannot be started is no fault of the path that is being made.
	if next, err := startEngine(p.program); err == nil {
		p.spare = next
		p.expire = time.AfterFunc(spareLife, p.drop)
	}
	return e, nil
}

// out takes the spare out, nil when there is none that lives. It needs mu.
func (p *pool) out() *engine {
	e := p.spare
	if p.spare = nil; e == nil {
		return nil
	}
	p.expire.Stop()
	select {
	case <-e.dead:
		e.close()
		return nil
	default:
		return e
	}
}

// drop ends the spare.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.out(); e != nil {
		e.close()
	}
}
