package apc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/host"
)

// Session is the control channel to one node of a path; it is met by host.Session.
type Session interface {
	Prepare(ctx context.Context, a host.Assignment) (addresses map[string]string, err error)
	// Attach takes control again of a path that the node already runs.
	Attach(ctx context.Context, path string, epoch uint32, capability []byte) (addresses map[string]string, err error)
	Connect(ctx context.Context, addresses map[string]string) error
	Start(ctx context.Context) error
	// RenewUnder renews the lease, and has the path run under the capability from now on.
	RenewUnder(ctx context.Context, lease time.Duration, capability []byte) error
	// Reports is closed when the node or the way to it is lost.
	Reports() <-chan host.Report
	// Certified is when the certificate ends that the node had at Prepare; zero is not known.
	Certified() time.Time
	Close(ctx context.Context) error
	// Detach ends the session and leaves the path as it is.
	Detach()
}

// Times of a path's life.
const (
	// lease is how long a node keeps a path without hearing from its creator.
	lease = 30 * time.Second
	// renewEvery is how often leases are renewed. The nodes judge the rights of the path each time, so that one whose
	// rights are gone ends within seconds.
	renewEvery = 4 * time.Second
	// commandTime bounds one command to one node; fetching a grammar and starting an engine fit well within it.
	commandTime = 15 * time.Second
	// drain is how long an epoch may take to come to its end that was left by choice: what is under way in its stages arrives.
	// brokenDrain is the same when it was left because it broke: much of it will never come.
	drain       = 2 * time.Second
	brokenDrain = 500 * time.Millisecond
	// silence is how long a node that sends heartbeats may be silent before the way to it is taken for broken.
	silence = 5 * time.Second
)

// node is one node's part in a flow.
type node struct {
	id      ca.ID
	control string
	stages  []host.Stage

	mu      sync.Mutex
	session Session // nil before it is opened; replaced when control was lost and taken again
}

func (n *node) through() Session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.session
}

func (n *node) command(s Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.session = s
}

// nodeError says which node's fault an error is.
type nodeError struct {
	node          ca.ID
	what, control string
	err           error
}

func (e *nodeError) Error() string {
	return fmt.Sprintf("%s %s at %s: %v", e.what, e.node, e.control, e.err)
}
func (e *nodeError) Unwrap() error { return e.err }

// flow is one epoch of a path on its nodes.
type flow struct {
	log      *slog.Logger
	open     Opener
	path     string
	epoch    uint32
	print    *blueprint
	position *operators.Position
	nodes    []*node
	reports  chan report
	drain    time.Duration // how long the older epoch may take to come to its end
	// certified is when the first certificate of its nodes ends, and with it a hop; zero is not known.
	certified time.Time
}

func (p *path) flow(open Opener, b *blueprint, epoch uint32) *flow {
	return &flow{
		log: p.log, open: open, path: p.info.Path, epoch: epoch, print: b, position: p.position, nodes: b.nodes(),
		reports: make(chan report),
	}
}

// carry has the stages go on that are the same in the flow that runs now.
func (f *flow) carry(now *flow, drain time.Duration) {
	f.drain = drain
	as := make(map[string]string)
	for i, at := range plan.Stays(now.print.plan, f.print.plan) {
		if at >= 0 {
			as[f.print.steps[i].Stage] = now.print.steps[at].Stage
		}
	}
	for _, n := range f.nodes {
		for i := range n.stages {
			n.stages[i].Carry = as[n.stages[i].ID]
		}
	}
}

// set starts the operators and joins them; nothing flows yet (section 7.2, step 3). Beside has an older epoch of the path
// run on meanwhile. What was made before an error is taken down again.
func (f *flow) set(ctx context.Context, token []byte, beside bool) error {
	var mu sync.Mutex
	addresses := make(map[string]string)
	err := each(ctx, f.nodes, "prepare", func(ctx context.Context, n *node) error {
		session, err := f.open(ctx, n.control, n.id)
		if err != nil {
			return err
		}
		n.command(session)
		mine, err := session.Prepare(ctx, host.Assignment{
			Path: f.path, Epoch: f.epoch, Beside: beside, Drain: f.drain, Lease: lease, Capability: token,
			Stages: n.stages, Data: f.print.data, Position: f.position,
		})
		mu.Lock()
		defer mu.Unlock()
		for hop, address := range mine {
			addresses[hop] = address
		}
		if ends := session.Certified(); !ends.IsZero() && (f.certified.IsZero() || ends.Before(f.certified)) {
			f.certified = ends
		}
		return err
	})
	if err == nil {
		err = each(ctx, f.nodes, "connect", func(ctx context.Context, n *node) error {
			return n.through().Connect(ctx, n.outbound(addresses))
		})
	}
	if err != nil {
		f.tearDown()
	}
	return err
}

// start begins the flow, and ends what ran beside it. The source's node comes last: everything below it runs before
// anything flows. After an error everything is taken down.
func (f *flow) start(ctx context.Context) error {
	start := func(ctx context.Context, n *node) error { return n.through().Start(ctx) }
	err := each(ctx, f.nodes[1:], "start", start)
	if err == nil {
		err = each(ctx, f.nodes[:1], "start", start)
	}
	if err != nil {
		f.tearDown()
	}
	return err
}

// outbound picks the addresses of the hops that the node dials.
func (n *node) outbound(addresses map[string]string) map[string]string {
	mine := make(map[string]string)
	for _, s := range n.stages {
		if s.Out == nil || s.Out.Peer == n.id {
			continue
		}
		if a, ok := addresses[s.Out.Hop]; ok {
			mine[s.Out.Hop] = a
		}
	}
	return mine
}

// each does one command at all nodes at once; the error is a nodeError of the first node that failed.
func each(ctx context.Context, nodes []*node, what string, do func(context.Context, *node) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	failed := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			err := do(ctx, n)
			if err != nil {
				err = &nodeError{n.id, what, n.control, err}
				cancel()
			}
			failed <- err
		}()
	}
	var first error
	for range nodes {
		if err := <-failed; err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return first
}

// tearDown closes every session; a node that cannot be reached drops its part when the lease ends.
func (f *flow) tearDown() { f.leave(func(*node) bool { return true }) }

// leave closes the sessions of some nodes and lets go of the others.
func (f *flow) leave(closes func(*node) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	var wait sync.WaitGroup
	for _, n := range f.nodes {
		session := n.through()
		if session == nil {
			continue
		}
		wait.Go(func() {
			if !closes(n) {
				session.Detach()
			} else if err := session.Close(ctx); err != nil {
				f.log.Warn("a node did not confirm the tear-down; its lease will end it", "node", n.id, "error", err)
			}
		})
	}
	wait.Wait()
}

// report is what a node told, or what became of the control of it.
type report struct {
	from *node
	host.Report
	cut, back bool  // the way to the node broke, and was found again
	lost      error // it was not
}

// listen passes on what the nodes tell, until ctx ends.
func (f *flow) listen(ctx context.Context, token func() []byte) {
	for _, n := range f.nodes {
		go f.hear(ctx, n, token)
	}
}

// hear passes on what a node tells. When the control channel breaks, the data may well flow on: control is taken again,
// for as long as the node keeps the path.
func (f *flow) hear(ctx context.Context, n *node, token func() []byte) {
	pass := func(r report) bool {
		r.from = n
		select {
		case f.reports <- r:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for f.relay(ctx, n, pass) && pass(report{cut: true}) {
		if err := f.reattach(ctx, n, token); err != nil {
			pass(report{lost: err})
			return
		}
		if !pass(report{back: true}) {
			return
		}
	}
}

// relay passes reports on until the session ends or the node, having sent some, falls silent; it is false when nobody
// listens any more.
func (f *flow) relay(ctx context.Context, n *node, pass func(report) bool) bool {
	session := n.through()
	quiet := time.NewTimer(silence)
	quiet.Stop()
	defer quiet.Stop()
	for {
		select {
		case r, ok := <-session.Reports():
			if !ok {
				return ctx.Err() == nil
			}
			if !pass(report{Report: r}) {
				return false
			}
			quiet.Reset(silence)
		case <-quiet.C:
			session.Detach()
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// Waits between attempts to reach a node again.
const (
	reattachFirst = 100 * time.Millisecond
	reattachMost  = 2 * time.Second
)

// reattach opens the control channel anew until the node answers or the lease that it was given last has run out.
func (f *flow) reattach(ctx context.Context, n *node, token func() []byte) error {
	ctx, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	wait := reattachFirst
	for {
		session, err := f.open(ctx, n.control, n.id)
		if err == nil {
			if _, err = session.Attach(ctx, f.path, f.epoch, token()); err == nil {
				n.command(session)
				return nil
			}
			session.Detach()
			if errors.Is(err, host.ErrNotFound) || errors.Is(err, host.ErrDenied) || errors.Is(err, host.ErrFenced) {
				return err // the node lives, and has no such path of ours
			}
		}
		if world.Sleep(ctx, wait) != nil {
			return err
		}
		wait = min(2*wait, reattachMost)
	}
}

// renew renews the leases of all nodes: one that is lost keeps no other from being renewed.
func (f *flow) renew(ctx context.Context, token []byte) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	errs := make([]error, len(f.nodes))
	var wait sync.WaitGroup
	for i, n := range f.nodes {
		wait.Go(func() {
			if err := n.through().RenewUnder(ctx, lease, token); err != nil {
				errs[i] = &nodeError{n.id, "renew", n.control, err}
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}
