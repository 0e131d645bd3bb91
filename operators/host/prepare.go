package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/operators"
)

// prepare makes the operators, joins those that are neighbours here, and listens on the inbound hops.
func (p *path) prepare(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.host.cfg.SetupTimeout)
	defer cancel()
	stages := make([]*stage, len(p.assignment.Stages))
	for i, spec := range p.assignment.Stages {
		s := &stage{path: p, spec: spec, state: Prepared, log: p.log.With("stage", spec.ID)}
		if s.carries = p.carried(spec); s.carries == nil {
			s.inst = newInstance(s)
		}
		stages[i] = s
	}
	p.mu.Lock()
	p.stages = stages
	p.mu.Unlock()
	p.joinInside()
	if err := p.listen(ctx); err != nil {
		return nil, err
	}
	if err := p.makeOperators(ctx, p.stages); err != nil {
		return nil, err
	}
	if given := p.given(); len(given) > 0 {
		if err := p.connect(ctx, given); err != nil {
			return nil, err
		}
	}
	return p.addresses(), nil
}

// memDepth is how many ADUs a hop inside the process holds: 160 ms of audio in the usual 20 ms ADUs.
const memDepth = 8

// joinInside joins the stages whose hops do not leave the process.
func (p *path) joinInside() {
	senders := make(map[string]*stage)
	for _, s := range p.stages {
		if s.spec.Out != nil && s.spec.Out.Transport == Mem {
			senders[s.spec.Out.Hop] = s
		}
	}
	for _, s := range p.stages {
		if s.spec.In != nil && s.spec.In.Transport == Mem {
			senders[s.spec.In.Hop].hop, s.inside = mem.Pair(memDepth) // it is there: check has seen to it
		}
	}
}

// listen prepares the receiving ends of the hops from other nodes.
func (p *path) listen(ctx context.Context) error {
	for _, s := range p.stages {
		end := s.spec.In
		if end == nil || end.Transport == Mem {
			continue
		}
		t, err := p.transport(end)
		if err != nil {
			return err
		}
		hop := p.hop(end)
		hop.Exit, hop.Playout = p.exits(s), end.Playout
		p.host.cfg.World.Fill(hop.Stream[:])
		pending, err := t.Listen(ctx, hop)
		if err != nil {
			return fmt.Errorf("hop %q: listen by %s: %w", end.Hop, end.Transport, err)
		}
		s.inbound = &inbound{pending: pending}
		s.inbound.wait()
	}
	return nil
}

// exits reports whether what comes into the stage from another node leaves the path on this one: at the stage itself, or
// at the end of those that it is joined to inside the process.
func (p *path) exits(s *stage) bool {
	for range p.stages {
		if s.spec.Out == nil {
			return true
		}
		if s.spec.Out.Transport != Mem {
			return false
		}
		for _, next := range p.stages {
			if next.spec.In != nil && next.spec.In.Transport == Mem && next.spec.In.Hop == s.spec.Out.Hop {
				s = next
				break
			}
		}
	}
	return false
}

func (p *path) transport(end *HopEnd) (connectors.Transport, error) {
	t, ok := p.host.transports[end.Transport]
	if !ok {
		return nil, fmt.Errorf("%w: hop %q wants the transport %q; this node has %v",
			ErrInvalid, end.Hop, end.Transport, slices.Sorted(maps.Keys(p.host.transports)))
	}
	return t, nil
}

func (p *path) hop(end *HopEnd) connectors.Hop {
	return connectors.Hop{
		Path: p.assignment.Path, Name: end.Hop, Epoch: p.assignment.Epoch, Type: end.Type, Peer: string(end.Peer),
	}
}

// addresses lists where the inbound hops listen.
func (p *path) addresses() map[string]string {
	addresses := make(map[string]string)
	for _, s := range p.stages {
		if s.inbound != nil {
			addresses[s.spec.In.Hop] = s.inbound.pending.Address()
		}
	}
	return addresses
}

// given lists the addresses that the assignment has already.
func (p *path) given() map[string]string {
	addresses := make(map[string]string)
	for _, s := range p.stages {
		if s.spec.Out != nil && s.spec.Out.Address != "" {
			addresses[s.spec.Out.Hop] = s.spec.Out.Address
		}
	}
	return addresses
}

// connect dials the outbound hops that have an address and no connection yet, all at once.
func (p *path) connect(ctx context.Context, addresses map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, p.host.cfg.SetupTimeout)
	defer cancel()
	var dialled sync.WaitGroup
	errs := make([]error, len(p.stages))
	for i, s := range p.stages {
		if s.spec.Out == nil || s.hop != nil {
			continue
		}
		address, ok := addresses[s.spec.Out.Hop]
		if !ok {
			continue
		}
		dialled.Go(func() {
			if err := p.dial(ctx, s, address); err != nil {
				errs[i] = fmt.Errorf("hop %q: dial %s at %.80q: %w", s.spec.Out.Hop, s.spec.Out.Peer, address, err)
			}
		})
	}
	dialled.Wait()
	return errors.Join(errs...)
}

func (p *path) dial(ctx context.Context, s *stage, address string) error {
	t, err := p.transport(s.spec.Out)
	if err != nil {
		return err
	}
	hop := p.hop(s.spec.Out)
	parsed, err := connectors.ParseAddress(s.spec.Out.Transport, address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	hop.Stream = parsed.Stream
	w, err := t.Dial(ctx, address, hop)
	if err == nil {
		s.hop = w
	}
	return err
}

// made is the outcome of one factory.
type made struct {
	inst *instance
	op   operators.Operator
	err  error
}

// makeOperators makes the operators of stages that have none, all at once, because their factories may fetch data or start
// a program. What a factory delivers after ctx has ended is closed.
func (p *path) makeOperators(ctx context.Context, stages []*stage) error {
	results := make(chan made)
	var makes int
	for _, s := range stages {
		if s.inst == nil {
			continue
		}
		makes++
		go func() {
			m := made{inst: s.inst}
			m.err = m.inst.guard(func() (err error) {
				m.op, err = p.host.cfg.Registry.Make(ctx, s.spec.Program, p.env(s))
				return err
			})
			select {
			case results <- m:
			case <-ctx.Done():
				closeOperator(m.op)
			}
		}()
	}
	var errs []error
	for range makes {
		select {
		case m := <-results:
			m.inst.op = m.op
			if m.err != nil {
				errs = append(errs, fmt.Errorf("stage %q: %w", m.inst.spec.ID, m.err))
			}
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("the operators were not made in time: %w", ctx.Err()))
			return errors.Join(errs...)
		}
	}
	return errors.Join(errs...)
}

// makeLeft makes the operators of stages that were to go on from the older epoch and were gone.
func (p *path) makeLeft(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.host.cfg.SetupTimeout)
	defer cancel()
	var left []*stage
	for _, s := range p.stages {
		if s.carries != nil {
			s.carries.unexpect()
			p.mu.Lock()
			s.carries, s.inst = nil, newInstance(s)
			p.mu.Unlock()
			left = append(left, s)
		}
	}
	return p.makeOperators(ctx, left)
}

// env is what a stage's operator is made in.
func (p *path) env(s *stage) operators.Env {
	env := operators.Env{
		World: p.host.cfg.World, Log: s.log, Args: s.spec.Args, Position: p.assignment.Position,
		Path: p.assignment.Path, Data: p.data,
		Note: s.inst.note,
	}
	if s.spec.In != nil {
		env.In = s.spec.In.Type
	}
	if s.spec.Out != nil {
		env.Out = s.spec.Out.Type
	}
	return env
}
