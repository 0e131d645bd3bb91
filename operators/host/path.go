package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ninja/ca"
	"ninja/operators/host/hostpb"
)

// Why a path is torn down.
var (
	errStopping = errors.New("the host is stopping")
	errReplaced = errors.New("a newer epoch of the path was prepared")
	errLease    = errors.New("the lease of the path ran out")
	errClosed   = errors.New("the creator closed the path")
)

// path is this node's part of one path at one epoch. run owns it; what others may read or do is behind mu.
type path struct {
	host       *Host
	key        key
	assignment Assignment // Capability belongs to run
	log        *slog.Logger
	cancel     context.CancelCauseFunc
	done       chan struct{} // closed when nothing of the path is left
	commands   chan command
	gives      chan giving
	ends       chan struct{} // holds a token when an instance may have come to its end
	lease      *time.Timer
	stages     []*stage // changed with mu held
	prepared   bool
	started    bool
	draining   bool           // a newer epoch has taken over
	running    int            // stages not at their end, once started
	failed     bool           // a stage was
	work       sync.WaitGroup // what stages do beside their instances
	older      *path          // runs beside this one until it starts; guarded by the host's mu

	mu      sync.Mutex // also guards the fields of stages that say so
	box     *outbox    // of the stream in control; nil while there is none
	kept    []*hostpb.Report
	gone    bool
	expires time.Time // monotonic
	notes   bucket
	closers []command // wait for the end
}

// outbox is what waits to be sent on one control stream.
type outbox = mailbox[*hostpb.Event]

// command is what a creator asks; do runs in the path's goroutine.
type command struct {
	id     uint64
	box    *outbox
	attach bool // obeyed though the stream is not in control yet
	do     func(ctx context.Context) (addresses map[string]string, err error)
}

// reply answers the command.
func (c command) reply(addresses map[string]string, err error) {
	c.box.put(replyEvent(c.id, addresses, err))
}

func newPath(h *Host, creator ca.Peer, a Assignment, cancel context.CancelCauseFunc) *path {
	if a.Lease == 0 {
		a.Lease = h.cfg.Lease
	}
	return &path{
		host: h, key: key{creator.ID, a.Path}, assignment: a, cancel: cancel,
		log:      h.cfg.Log.With("path", a.Path, "epoch", a.Epoch),
		done:     make(chan struct{}),
		commands: make(chan command, 8),
		gives:    make(chan giving),
		ends:     make(chan struct{}, 1),
		expires:  time.Now().Add(a.Lease),
	}
}

// run is the life of the path: it prepares, answers first, obeys commands, and takes everything down when ctx ends.
func (p *path) run(ctx context.Context, old *path, first command) {
	p.lease = time.AfterFunc(time.Until(p.expires), func() { p.cancel(errLease) })
	defer func() { p.lease.Stop() }()
	if old != nil {
		<-old.done
	}
	addresses, err := p.prepare(ctx)
	if err != nil {
		p.cancel(err)
		p.finish(ctx)
		first.reply(nil, err)
		return
	}
	p.prepared = true
	reply := replyEvent(first.id, addresses, nil)
	reply.GetReply().CertifiedUnixMs = p.host.cfg.Identity.Expires().UnixMilli()
	first.box.put(reply)
	p.log.Info("path prepared", "creator", p.key.creator, "stages", len(p.stages))
	beat := time.NewTicker(p.host.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			p.finish(ctx)
			return
		case c := <-p.commands:
			p.obey(ctx, c)
		case g := <-p.gives:
			p.give(g)
		case <-p.ends:
			p.book(ctx)
		case <-beat.C:
			p.heartbeat()
		}
	}
}

// obey does a command, unless another stream has taken control since it was sent.
func (p *path) obey(ctx context.Context, c command) {
	switch {
	case p.draining:
		c.reply(nil, fmt.Errorf("%w: %w", ErrFenced, errReplaced))
		return
	case !c.attach && !p.controls(c.box):
		c.reply(nil, errTaken)
		return
	}
	addresses, err := c.do(ctx)
	if err != nil && ctx.Err() != nil {
		err = p.goneError(ctx)
	}
	c.reply(addresses, err)
}

var errTaken = fmt.Errorf("%w: another control stream has taken over the path", ErrFenced)

func (p *path) controls(box *outbox) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.box == box
}

func (p *path) goneError(ctx context.Context) error {
	return fmt.Errorf("%w: %q is gone: %w", ErrNotFound, p.key.path, context.Cause(ctx))
}

// post hands a command to the path's goroutine; it does not block.
func (p *path) post(c command) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return fmt.Errorf("%w: %q is gone", ErrNotFound, p.key.path)
	}
	select {
	case p.commands <- c:
		return nil
	default:
		return fmt.Errorf("%w: %d commands wait already", ErrFull, cap(p.commands))
	}
}

// close begins the tear-down and sees to it that the command is answered when nothing is left.
func (p *path) close(c command) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
		c.reply(nil, nil)
	case p.box != c.box:
		c.reply(nil, errTaken)
	case len(p.closers) == cap(p.commands):
		c.reply(nil, fmt.Errorf("%w: it is being closed", ErrFull))
	default:
		p.closers = append(p.closers, c)
		p.cancel(errClosed)
	}
}

// detach forgets a control stream that has ended.
func (p *path) detach(box *outbox) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.box == box {
		p.box = nil
	}
}

// attach gives control to a stream and tells it the faults so far.
func (p *path) attach(ctx context.Context, creator ca.Peer, capability []byte, box *outbox) (map[string]string, error) {
	if err := p.allowed(ctx, creator, capability); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.box = box
	for _, r := range p.kept {
		box.put(reportEvent(r))
	}
	p.mu.Unlock()
	p.heartbeat()
	return p.addresses(), nil
}

// renew extends the lease. What is no longer permitted is torn down at once, not when its lease runs out.
func (p *path) renew(ctx context.Context, creator ca.Peer, lease time.Duration, capability []byte) error {
	if lease == 0 {
		lease = p.host.cfg.Lease
	}
	if lease < 0 || lease > MaxLease || len(capability) > MaxCapability {
		return fmt.Errorf("%w: a lease of %v: at most %v is allowed", ErrInvalid, lease, MaxLease)
	}
	if err := p.allowed(ctx, creator, capability); err != nil {
		p.cancel(err)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lease.Reset(lease) {
		p.expires = time.Now().Add(lease)
	}
	return nil
}

// allowed asks Permit again. The capability replaces the one that the path runs under; none leaves it as it is.
func (p *path) allowed(ctx context.Context, creator ca.Peer, capability []byte) error {
	a := p.assignment
	if len(capability) > 0 {
		a.Capability = capability
	}
	err := p.host.permit(ctx, creator, a)
	if err == nil {
		p.assignment.Capability = a.Capability
	}
	return err
}

// start sets every stage off, after those that go on from the older epoch have been taken over.
func (p *path) start(ctx context.Context) error {
	if p.started {
		return fmt.Errorf("%w: the path runs already", ErrInvalid)
	}
	for _, s := range p.stages {
		if s.spec.Out != nil && s.hop == nil {
			return fmt.Errorf("%w: hop %q is not connected: give its address with Connect first", ErrInvalid, s.spec.Out.Hop)
		}
	}
	p.started = true
	p.takeOver(ctx)
	if err := p.makeLeft(ctx); err != nil {
		p.cancel(err)
		return err
	}
	p.running = len(p.stages)
	for _, s := range p.stages {
		p.setState(s, Running)
		if !s.live {
			s.begin()
		}
	}
	p.wake() // an instance may have come to its end on its way here
	return nil
}

func (p *path) setState(s *stage, state State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.state = state
}

// wake has the path's goroutine look for instances that have come to their ends.
func (p *path) wake() {
	select {
	case p.ends <- struct{}{}:
	default:
	}
}

// book takes in which stages have come to their ends.
func (p *path) book(ctx context.Context) {
	for _, s := range p.stages {
		if !s.live || s.booked {
			continue
		}
		if o := s.inst.outcome.Load(); o != nil {
			s.booked = true
			p.running--
			p.stageEnded(s, o.fault, ctx.Err() != nil)
		}
	}
	if p.draining && p.running == 0 {
		p.cancel(errReplaced)
	}
}

// stageEnded reports a fault, or the normal end of all. Stages that stop because the path is being taken down have not
// come to a normal end: why it is gone is told instead (tellGone), and a creator that was told an end before would not make
// the path anew. Nor have those that a newer epoch has taken over from.
func (p *path) stageEnded(s *stage, f *fault, down bool) {
	if f != nil && !down {
		p.failed = true
		p.setState(s, Failed)
		p.log.Warn("stage failed", "stage", s.spec.ID, "hop", f.hop, "err", f.err)
		if !f.told {
			p.keep(f.report(s.spec.ID))
		}
		return
	}
	p.setState(s, Stopped)
	if p.running == 0 && !p.failed && !down && !p.draining {
		p.log.Info("path ended")
		p.keep(&hostpb.Report{Kind: hostpb.Report_ENDED, Stages: statsToWire(p.stats())})
	}
}

// hopBroke reports a hop that broke; the stage waits for another one. Any goroutine may call it.
func (p *path) hopBroke(s *stage, end *HopEnd, err error) {
	p.log.Warn("hop broke", "stage", s.spec.ID, "hop", end.Hop, "err", err)
	f := fault{hop: end.Hop, neighbour: end.Peer, err: err}
	p.keep(f.report(s.spec.ID))
}

// finish takes down what is left, within the host's stop timeout, and answers everyone who waits.
func (p *path) finish(ctx context.Context) {
	p.leave(ctx)
	p.host.forget(p)
	p.mu.Lock()
	p.gone = true
	closers := p.closers
	p.mu.Unlock()
	close(p.done)
	p.log.Info("path torn down", "why", context.Cause(ctx))
	for _, c := range closers {
		c.reply(nil, nil)
	}
	for {
		select {
		case c := <-p.commands:
			c.reply(nil, p.goneError(ctx))
		default:
			p.tellGone(ctx)
			return
		}
	}
}

// leave has all stages come to their ends, and drops those that never ran.
func (p *path) leave(ctx context.Context) {
	late := time.NewTimer(p.host.cfg.StopTimeout)
	defer late.Stop()
	p.running = 0
	for _, s := range p.stages {
		switch {
		case !s.live:
			p.work.Go(s.drop)
		case !s.booked:
			p.running++
			s.inst.leave(context.Cause(ctx))
		}
	}
	dropped := make(chan struct{})
	go func() { p.work.Wait(); close(dropped) }()
	p.wake()
	for waits := dropped; p.running > 0 || waits != nil; {
		select {
		case <-p.ends:
			p.book(ctx)
		case <-waits:
			waits = nil
		case <-late.C:
			p.log.Error("operators do not stop and are abandoned", "stages", p.runningStages(), "after", p.host.cfg.StopTimeout)
			return
		}
	}
}

// tellGone tells a creator that did not ask for it that the path is gone.
func (p *path) tellGone(ctx context.Context) {
	if cause := context.Cause(ctx); p.prepared && !errors.Is(cause, errClosed) {
		p.keep(&hostpb.Report{Kind: hostpb.Report_FAULT, Text: clip("the path is gone from this node: "+cause.Error(), maxText)})
	}
}

func (p *path) runningStages() (ids []string) {
	for _, s := range p.stats() {
		if s.State != Stopped && s.State != Failed {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
