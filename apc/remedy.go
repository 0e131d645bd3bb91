package apc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/operators/host"
)

// repair judges what was heard, and makes the path anew without those whose fault it was.
func (k *keeper) repair(ctx context.Context) *end {
	v := diagnose(k.signs, k.cut)
	begun := k.p.now()
	k.history.judge(&v, k.flow.print, begun)
	k.signs, k.due = nil, nil
	fail := func(err error) *end {
		if ctx.Err() != nil {
			return &end{Ended, k.stopped()}
		}
		if err == nil {
			return &end{Failed, v.why}
		}
		return &end{Failed, fmt.Sprintf("%s; %v", v.why, err)}
	}
	for _, id := range v.blamed {
		if k.flow.print.ends(id) {
			return fail(nil)
		}
	}
	if err := k.history.admit(begun); err != nil {
		return fail(err)
	}
	k.p.become(Repairing, v.why)
	err := k.remedy(ctx, v, k.since)
	switch {
	case err == nil:
		k.p.become(Running, "")
		return nil
	case errors.Is(err, host.ErrDenied):
		return rightsGone(err)
	}
	return fail(err)
}

// remedy tries what may help: the same plan when nobody is to blame, then a plan that was kept for the case, then a search.
func (k *keeper) remedy(ctx context.Context, v verdict, begun time.Time) error {
	var last error
	before := -1.0 // it does not work
	for try := range maxTries {
		if try > 0 && world.Sleep(ctx, k.c.cfg.World.Jitter(tryAgain<<try)) != nil {
			return ctx.Err()
		}
		s, b, err := k.alternative(ctx, v.blamed, try)
		if err != nil {
			if last != nil {
				return fmt.Errorf("%w; then: %w", last, err)
			}
			return err
		}
		m := Move{Cause: CauseRepair, Why: v.why, Before: before, Gap: k.p.now().Sub(begun)}
		if _, last = k.replace(ctx, s, b, m, try < maxTries-1); last == nil || errors.Is(last, host.ErrDenied) || ctx.Err() != nil {
			return last
		}
		var at *nodeError
		if errors.As(last, &at) && !b.ends(at.node) {
			v.blamed = append(v.blamed, at.node)
			k.history.avoid[at.node] = k.p.now().Add(avoidTime)
		}
	}
	return last
}

// alternative is what to go over to: the present plan when nobody is blamed at the first try, else a plan that was kept, else one
// that is found now. Nodes that were blamed for something earlier are done without where that is possible.
func (k *keeper) alternative(ctx context.Context, blamed []ca.ID, try int) (*sketch, *blueprint, error) {
	if len(blamed) == 0 && try == 0 {
		return k.sketch, k.flow.print, nil
	}
	avoid := k.history.avoided(k.p.now())
	k.p.mu.Lock()
	spare := k.p.spare
	k.p.mu.Unlock()
	if spare != nil {
		if best := spare.Replan(avoid...); best != nil {
			if b, err := k.sketch.drawUp(best); err == nil {
				s := *k.sketch
				return &s, b, nil
			}
		}
	}
	s, b, err := k.found(ctx, avoid)
	if errors.Is(err, ErrRefused) && len(avoid) > len(blamed) {
		return k.found(ctx, blamed)
	}
	return s, b, err
}

// found is the best plan that a search finds now.
func (k *keeper) found(ctx context.Context, without []ca.ID) (*sketch, *blueprint, error) {
	r := k.p.request
	r.Capability, _ = k.p.rights()
	ctx, cancel := context.WithTimeout(ctx, planTime)
	defer cancel()
	s, err := k.c.sketch(ctx, k.p.asker, r, without...)
	if err != nil {
		return nil, nil, err
	}
	b, err := s.draw()
	return s, b, err
}
