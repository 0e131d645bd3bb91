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
	Renew(ctx context.Context, lease time.Duration) error
	// Reports is closed when the node or the way to it is lost.
	Reports() <-chan host.Report
	Close(ctx context.Context) error
}

// Times of a path's life.
const (
	// lease is how long a node keeps a path without hearing from its creator.
	lease = 30 * time.Second
	// commandTime bounds one command to one node; fetching a grammar and starting an engine fit well within it.
	commandTime = 15 * time.Second
	// remembered bounds the events kept for those who begin to watch later.
	remembered = 200
	// watchers bounds the watchers of one path, watcherQueue the events that wait for one of them.
	maxWatchers  = 16
	watcherQueue = 256
)

// path is one path and its life. Its goroutine is run; the rest is behind mu.
type path struct {
	log        *slog.Logger
	now        func() time.Time
	capability []byte
	expires    time.Time // when the capability lapses: the path is taken down then
	data       map[string]host.DataSource
	position   *operators.Position
	learn      *learned
	spare      *plan.Kept // node-disjoint alternatives; nil until they are made
	stop       context.CancelFunc
	done       chan struct{} // closed when nothing is left of the path

	mu       sync.Mutex
	info     Info
	events   []Event
	watchers map[chan Event]bool // true: the watcher wants more
}

// node is one node's part in a path.
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

// nodes cuts the path into each node's assignment, in the order in which the data first meets them.
func (p *path) nodes() []*node {
	var all []*node
	of := make(map[ca.ID]*node)
	steps, hops := p.info.Steps, p.info.Hops
	for i, s := range steps {
		n, ok := of[s.Node]
		if !ok {
			n = &node{id: s.Node, control: s.control}
			of[s.Node], all = n, append(all, n)
		}
		stage := host.Stage{ID: s.Stage, Program: s.Program, Args: s.args, CPU: s.Cost.CPU}
		if i > 0 {
			h := hops[i-1]
			stage.In = &host.HopEnd{Hop: h.Hop, Transport: h.Transport, Type: h.Type, Peer: steps[i-1].Node}
		}
		if i < len(hops) {
			h := hops[i]
			stage.Out = &host.HopEnd{Hop: h.Hop, Transport: h.Transport, Type: h.Type, Peer: steps[i+1].Node}
		}
		n.stages = append(n.stages, stage)
	}
	return all
}

// instantiate starts the operators, joins them and starts the flow (section 7.2, step 3). What it made before an error
// is taken down again.
func (p *path) instantiate(ctx context.Context, open Opener) (_ []*node, err error) {
	all := p.nodes()
	defer func() {
		if err != nil {
			p.tearDown(all)
		}
	}()
	var mu sync.Mutex
	addresses := make(map[string]string)
	err = each(ctx, all, "prepare", func(ctx context.Context, n *node) error {
		session, err := open(ctx, n.control, n.id)
		if err != nil {
			return err
		}
		n.command(session)
		mine, err := session.Prepare(ctx, host.Assignment{
			Path: p.info.Path, Epoch: p.info.Epoch, Lease: lease, Capability: p.capability,
			Stages: n.stages, Data: p.data, Position: p.position,
		})
		mu.Lock()
		defer mu.Unlock()
		for hop, address := range mine {
			addresses[hop] = address
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, all, "connect", func(ctx context.Context, n *node) error {
		return n.through().Connect(ctx, n.outbound(addresses))
	})
	if err != nil {
		return nil, err
	}
	// The source's node comes last: everything below it runs before anything flows.
	start := func(ctx context.Context, n *node) error { return n.through().Start(ctx) }
	if err = each(ctx, all[1:], "start", start); err == nil {
		err = each(ctx, all[:1], "start", start)
	}
	return all, err
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

// each does one command at all nodes at once; the error names the first node that failed.
func each(ctx context.Context, nodes []*node, what string, do func(context.Context, *node) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	failed := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() {
			err := do(ctx, n)
			if err != nil {
				err = fmt.Errorf("%s %s at %s: %w", what, n.id, n.control, err)
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
func (p *path) tearDown(nodes []*node) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	var wait sync.WaitGroup
	for _, n := range nodes {
		session := n.through()
		if session == nil {
			continue
		}
		wait.Go(func() {
			if err := session.Close(ctx); err != nil {
				p.log.Warn("a node did not confirm the tear-down; its lease will end it", "node", n.id, "error", err)
			}
		})
	}
	wait.Wait()
}

// report is what a node told, or that control of it was lost.
type report struct {
	from *node
	host.Report
	lost error
}

// run watches a running path until it ends, and tears it down.
func (p *path) run(ctx context.Context, nodes []*node, open Opener) {
	defer close(p.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reports := make(chan report)
	for _, n := range nodes {
		go p.listen(ctx, n, open, reports)
	}
	renew := time.NewTicker(lease / 3)
	defer renew.Stop()
	ended := make(map[*node]bool)
	listener := p.info.Steps[len(p.info.Steps)-1].Node
	var blame blame
	state, why := Ended, "deleted"
	for running := true; running; {
		select {
		case <-ctx.Done():
			if running = false; errors.Is(ctx.Err(), context.DeadlineExceeded) {
				why = "the capability that it runs under has lapsed"
			}
		case <-renew.C:
			go p.renew(ctx, nodes)
		case <-blame.due:
			state, why, running = Failed, blame.why, false
		case r := <-reports:
			switch {
			case r.lost != nil && !ended[r.from]:
				state, running = Failed, false
				why = fmt.Sprintf("control of %s at %s is lost: %v", r.from.id, r.from.control, r.lost)
			case r.lost != nil:
			case r.Kind == host.Fault:
				if blame.add(r) {
					state, why, running = Failed, blame.why, false
				}
				p.log.Info("fault", "node", r.from.id, "stage", r.Stage, "hop", r.Hop, "text", r.Text)
			case r.Kind == host.Ended:
				p.measured(r.from, r.Report)
				ended[r.from] = true
				if r.from.id == listener {
					why, running = "the listener has heard the end, or hung up", false
				}
			default:
				p.measured(r.from, r.Report)
			}
		}
	}
	cancel()
	if state == Failed {
		p.tell(Event{Kind: "fault", Text: why})
	}
	p.tearDown(nodes)
	p.become(state, why)
}

// blame finds whose fault it was. A stage whose hop broke blames its neighbour, and the neighbour's own report, a fault
// of its own or the end of a listener who hung up, says why: it gets a moment to come.
type blame struct {
	why string
	due <-chan time.Time // nil while nobody is blamed
}

// blameTime is how long a neighbour's own report is waited for.
const blameTime = 300 * time.Millisecond

// add takes in a fault and says whether the cause is known now.
func (b *blame) add(r report) bool {
	own := r.Hop == ""
	if b.why == "" || own {
		b.why = fmt.Sprintf("%s at %s: %s", r.Stage, r.from.id, r.Text)
	}
	if b.due == nil {
		b.due = time.After(blameTime)
	}
	return own
}

// listen passes on what a node tells. When the control channel breaks, the data may well flow on: control is taken again,
// for as long as the node keeps the path.
func (p *path) listen(ctx context.Context, n *node, open Opener, to chan<- report) {
	pass := func(r report) bool {
		select {
		case to <- r:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		for r := range n.through().Reports() {
			if !pass(report{from: n, Report: r}) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err := p.reattach(ctx, n, open); err != nil {
			pass(report{from: n, lost: err})
			return
		}
	}
}

// Waits between attempts to reach a node again.
const (
	reattachFirst = 100 * time.Millisecond
	reattachMost  = 2 * time.Second
)

// reattach opens the control channel anew until the node answers or the lease that it was given last has run out.
func (p *path) reattach(ctx context.Context, n *node, open Opener) error {
	ctx, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	wait := reattachFirst
	for {
		session, err := open(ctx, n.control, n.id)
		if err == nil {
			if _, err = session.Attach(ctx, p.info.Path, p.info.Epoch, p.capability); err == nil {
				n.command(session)
				return nil
			}
			_ = session.Close(ctx)
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

func (p *path) renew(ctx context.Context, nodes []*node) {
	err := each(ctx, nodes, "renew", func(ctx context.Context, n *node) error { return n.through().Renew(ctx, lease) })
	if err != nil && ctx.Err() == nil {
		p.log.Warn("a lease was not renewed", "error", err)
	}
}

// measured takes in a heartbeat or a note.
func (p *path) measured(from *node, r host.Report) {
	if r.Kind == host.Note {
		p.tell(Event{Kind: "note", Stage: r.Stage, Node: from.id, NoteKind: r.NoteKind, Text: r.Text})
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range r.Stages {
		for i := range p.info.Steps {
			step := &p.info.Steps[i]
			if step.Stage != s.ID {
				continue
			}
			if s.In.ADUs != step.In && s.ProcessP99 > 0 && step.Node == from.id { // it has worked since its last report
				p.learn.report(step.name, step.Node, s, step.described)
			}
			step.In, step.Out, step.ProcessP50, step.ProcessP99 = s.In.ADUs, s.Out.ADUs, s.Process, s.ProcessP99
			if i > 0 {
				p.info.Hops[i-1].Stats = s.In
			}
		}
	}
}

// become changes the state and tells the watchers; after the last state they are let go.
func (p *path) become(s State, why string) {
	p.mu.Lock()
	p.info.State, p.info.Why = s, why
	p.mu.Unlock()
	text := string(s)
	if why != "" {
		text += ": " + why
	}
	p.log.Info("path is "+string(s), "why", why)
	p.tell(Event{Kind: "state", Text: text})
	if s != Ended && s != Failed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.watchers {
		close(w)
	}
	p.watchers = nil
}

// tell remembers an event and hands it to the watchers; one that does not keep up misses it.
func (p *path) tell(e Event) {
	e.Time = p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.events = append(p.events, e); len(p.events) > remembered {
		p.events = p.events[1:]
	}
	for w := range p.watchers {
		select {
		case w <- e:
		default:
		}
	}
}

// watch returns the events so far and a channel with those to come, nil when the path has ended already.
func (p *path) watch() (past []Event, next chan Event, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	past = append(past, p.events...)
	if p.info.State == Ended || p.info.State == Failed {
		return past, nil, nil
	}
	if len(p.watchers) >= maxWatchers {
		return nil, nil, fmt.Errorf("path %s has %d watchers already", p.info.Path, maxWatchers)
	}
	next = make(chan Event, watcherQueue)
	if p.watchers == nil {
		p.watchers = make(map[chan Event]bool)
	}
	p.watchers[next] = true
	return past, next, nil
}

func (p *path) unwatch(w chan Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, w)
}

// snapshot copies what is known.
func (p *path) snapshot() Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	info := p.info
	info.Steps = append([]Step(nil), info.Steps...)
	info.Hops = append([]Hop(nil), info.Hops...)
	return info
}
