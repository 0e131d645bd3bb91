package host

import (
	"context"
	"slices"
	"time"
)

// giving asks the goroutine of an older epoch for instances that go on in a newer one, and to take leave of the rest.
type giving struct {
	wants  []*instance
	drain  time.Duration
	answer chan given // of room for one; whoever took the question answers at once
}

// given are the instances that are the newer epoch's from now on. ends says that the rest is ended at once and must be
// waited for.
type given struct {
	instances []*instance
	ends      bool
}

// carried is the instance of the older epoch that a stage goes on with; nil when there is none that fits. From now on an
// end of what it reads may not be the last word.
func (p *path) carried(spec Stage) *instance {
	if spec.Carry == "" || !p.assignment.Beside {
		return nil
	}
	p.host.mu.Lock()
	older := p.older
	p.host.mu.Unlock()
	if older == nil {
		return nil
	}
	older.mu.Lock()
	defer older.mu.Unlock()
	for _, s := range older.stages {
		if s.spec.ID == spec.Carry && s.state == Running && s.inst.fits(spec) {
			if s.inst.in != nil && !s.inst.in.expect() {
				return nil
			}
			return s.inst
		}
	}
	return nil
}

func (i *instance) unexpect() {
	if i.in != nil {
		i.in.unexpect()
	}
}

// maxDraining bounds how many older epochs of a path come to their ends at a time; the oldest is then ended at once.
const maxDraining = 4

// retire strikes the older epoch that runs beside p off the books, except that the host still knows it.
func (h *Host) retire(p *path) (older *path) {
	h.mu.Lock()
	defer h.mu.Unlock()
	older, p.older = p.older, nil
	if older == nil {
		return nil
	}
	h.draining = append(h.draining, older)
	mine := slices.DeleteFunc(slices.Clone(h.draining), func(d *path) bool { return d.key != p.key })
	if len(mine) > maxDraining {
		mine[0].cancel(errReplaced)
	}
	return older
}

// takeOver has the instances go on in p that it carries, and ends the older epoch, or has it end by itself. Those that are
// not there any more are to be made anew.
func (p *path) takeOver(ctx context.Context) {
	older := p.host.retire(p)
	if older == nil {
		return
	}
	g := giving{drain: p.assignment.Drain, answer: make(chan given, 1)}
	for _, s := range p.stages {
		if s.carries != nil {
			g.wants = append(g.wants, s.carries)
		}
	}
	select {
	case older.gives <- g:
	case <-older.done:
		return
	case <-ctx.Done():
		return
	}
	got := <-g.answer
	for _, s := range p.stages {
		if i := s.carries; i != nil && slices.Contains(got.instances, i) {
			p.mu.Lock()
			s.carries, s.inst = nil, i
			p.mu.Unlock()
			s.adopt(i, p.assignment.Drain)
		}
	}
	if got.ends {
		<-older.done // bounded by StopTimeout
	}
}

// give hands instances over to a newer epoch. What is left is ended now if it is a source, which would go on, or a sink,
// which may hold a device; else it drains: what sends to it ends, and so will it.
func (p *path) give(g giving) {
	var got given
	p.mu.Lock()
	p.stages = slices.DeleteFunc(p.stages, func(s *stage) bool {
		gives := s.live && !s.booked && slices.Contains(g.wants, s.inst)
		if gives {
			got.instances = append(got.instances, s.inst)
			p.running--
		}
		return gives
	})
	p.mu.Unlock()
	p.draining = true
	got.ends = g.drain == 0
	for _, s := range p.stages {
		if !s.booked && (s.spec.In == nil || s.spec.Out == nil) {
			got.ends = true
		}
	}
	switch {
	case got.ends || p.running == 0:
		p.cancel(errReplaced)
	default:
		p.lease.Stop()
		p.lease = time.AfterFunc(g.drain, func() { p.cancel(errReplaced) })
	}
	g.answer <- got
}
