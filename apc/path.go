package apc

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/operators/host"
)

const (
	// remembered bounds the events kept for those who begin to watch later, rememberedMoves the moves.
	remembered      = 200
	rememberedMoves = 20
	// watchers bounds the watchers of one path, watcherQueue the events that wait for one of them.
	maxWatchers  = 16
	watcherQueue = 256
)

// path is one path and its life. Its keeper's goroutine looks after it; what others may read or do is behind mu.
type path struct {
	log      *slog.Logger
	now      func() time.Time
	asker    ca.Peer
	request  Request
	position *operators.Position
	learn    *learned
	stop     context.CancelFunc
	renewals chan renewal
	done     chan struct{} // closed when nothing is left of the path

	mu       sync.Mutex
	info     Info
	spare    *plan.Kept // node-disjoint alternatives; nil until they are made
	token    []byte     // the capability that it runs under; it lapses at info.Expires
	events   []Event
	watchers map[chan Event]bool // true: the watcher wants more
}

// rights are what the path runs under now.
func (p *path) rights() (token []byte, expires time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token, p.info.Expires
}

func (p *path) renewed(token []byte, expires time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token, p.info.Expires = token, expires
}

// adopt has the path be what a flow is.
func (p *path) adopt(f *flow, m *Move) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := &p.info
	i.Epoch, i.Steps, i.Hops = f.epoch, slices.Clone(f.print.steps), slices.Clone(f.print.hops)
	i.Cost, i.Score, i.Explanation = f.print.cost, f.print.score, f.print.proof
	if m == nil {
		return
	}
	i.Outlook = nil
	i.Repairs, i.Moved = i.Repairs+m.repairs(), i.Moved+1-m.repairs()
	if i.Moves = append(i.Moves, *m); len(i.Moves) > rememberedMoves {
		i.Moves = i.Moves[1:]
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
			if step.Stage != s.ID || step.Node != from.id { // nobody speaks for another's stage
				continue
			}
			if s.In.ADUs != step.In && s.Out.ADUs != step.Out && s.ProcessP99 > 0 { // it has worked since its last report
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
	info.Moves = append([]Move(nil), info.Moves...)
	return info
}
