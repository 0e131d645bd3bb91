package apc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators/host"
)

// Times of moves.
const (
	// settle is how long a path is left alone after it was made or moved.
	settle = 30 * time.Second
	// steady is how many looks in a row must find the same: that moving pays.
	steady = 3
	// share bounds what looking takes of a processor, over all paths: one part in so many.
	share = 20
	// lookTime bounds the search of one look.
	lookTime = time.Second
	// beforeEnd is how long before the first of its certificates ends a path is made anew; by then the nodes have had
	// theirs renewed for a while. againAfter is how long after that failed it is tried again.
	beforeEnd  = 5 * time.Minute
	againAfter = time.Minute
)

// outlook is what a keeper knows of better plans.
type outlook struct {
	judged  *plan.Catalogue // what was last looked at
	pays    int             // looks in a row that found that moving pays
	took    time.Duration   // of the last search
	highest uint32          // epoch that was tried
	remaken time.Time       // when making anew for the certificates' sake was last tried
}

func (k *keeper) epoch() uint32 { return max(k.highest, k.flow.epoch) }

// firstLook and nextLook are the waits before looking for a better plan.
func (k *keeper) firstLook() time.Duration {
	return k.c.cfg.World.Jitter(max(settle, k.c.cfg.Look))
}

func (k *keeper) nextLook() time.Duration {
	wait := max(k.c.cfg.Look, share*k.took*time.Duration(k.c.running()))
	return k.c.cfg.World.Jitter(wait)
}

// running is how many paths there are.
func (c *Creator) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.paths)
}

// look compares the running plan with the best there would be, by what the view of the path's rights says now, and moves
// the path when the gain has beaten the cost of moving for a while. It asks nobody: without a view in step it waits.
func (k *keeper) look(ctx context.Context) *end {
	s := k.survey(ctx)
	if s == nil || s.catalogue == k.judged && k.pays == 0 {
		return nil
	}
	select { // plans that somebody waits for go first
	case k.c.preparing <- struct{}{}:
		defer func() { <-k.c.preparing }()
	case <-ctx.Done():
		return nil
	}
	k.judged = s.catalogue
	begun := k.p.now()
	m, err := k.compare(ctx, s)
	k.took = k.p.now().Sub(begun)
	if err != nil {
		k.p.log.Debug("no better plan was looked for", "error", err)
		return nil
	}
	o := Outlook{Time: begun, Now: m.Present, Text: m.Why}
	if m.Broken {
		o.Now = -1
	}
	if m.To != nil {
		o.Best = m.To.Cost
	}
	if !m.Move {
		k.pays = 0
		k.p.foresee(o)
		return nil
	}
	if k.pays++; k.pays < steady {
		o.Text = fmt.Sprintf("%s; done when %d looks in a row have found so, of which this is number %d", m.Why, steady, k.pays)
		k.p.foresee(o)
		return nil
	}
	k.pays = 0
	k.p.foresee(o)
	return k.move(ctx, s, m.To, Move{Cause: CauseBetter, Why: m.Why, Before: o.Now})
}

func (p *path) foresee(o Outlook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.info.Outlook = &o
}

// survey is the path's request by what its rights show now; nil when there is no view in step.
func (k *keeper) survey(ctx context.Context) *sketch {
	r := k.p.request
	r.Capability, _ = k.p.rights()
	form, words, err := r.check()
	if err != nil {
		return nil
	}
	s := &sketch{form: form}
	if s.claims, err = k.c.claims(k.p.asker, r.Capability, r.Path); err != nil {
		return nil
	}
	if s.live = k.c.watched(r.Capability, s.claims); s.live == nil || !s.live.ready() || k.c.match(ctx, r.Capability, words) != nil {
		return nil
	}
	if s.look(words, k.c.learned) != nil {
		return nil
	}
	for _, id := range k.history.avoided(k.p.now()) {
		s.request.Without = append(s.request.Without, string(id))
	}
	return s
}

// ready reports whether the view is in step now.
func (l *live) ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inStep
}

// compare prices the running plan beside the best one, with the loads that there would be without this path, and with
// those of paths that went to nodes so recently that the nodes' own numbers may not tell it yet.
func (k *keeper) compare(ctx context.Context, s *sketch) (*plan.Move, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var ch plan.Change
	for id, more := range k.c.moving.since(k.p.now()) {
		if n, ok := s.catalogue.Node(id); ok {
			n.Load += more
			ch.Nodes = append(ch.Nodes, n)
		}
	}
	c := s.catalogue
	if ch.Nodes != nil {
		slices.SortFunc(ch.Nodes, func(a, b plan.Node) int { return cmp.Compare(a.ID, b.ID) })
		var err error
		if c, err = c.With(ch); err != nil {
			return nil, err
		}
	}
	h := k.c.cfg.Hysteresis
	h.Counted = true
	return c.Move(ctx, s.request, k.flow.print.plan, h)
}

// arrivals are the loads that moved paths have just brought to nodes. Safe for concurrent use.
type arrivals struct {
	mu  sync.Mutex
	all []arrival
}

type arrival struct {
	at   time.Time
	node ca.ID
	cpu  float64
}

// untold is how long a node's published load may lag behind what runs there.
const untold = 20 * time.Second

// book notes what a plan brings.
func (a *arrivals) book(p *plan.Plan, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range p.Steps {
		a.all = append(a.all, arrival{now, s.Node.ID, s.CPU})
	}
}

// since is the load that came too recently to be told.
func (a *arrivals) since(now time.Time) map[ca.ID]float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = slices.DeleteFunc(a.all, func(x arrival) bool { return now.Sub(x.at) >= untold })
	load := make(map[ca.ID]float64)
	for _, x := range a.all {
		load[x.node] += x.cpu
	}
	return load
}

// move goes over to a better plan.
func (k *keeper) move(ctx context.Context, s *sketch, best *plan.Plan, m Move) *end {
	b, err := s.drawUp(best)
	if err != nil {
		return nil // it changed meanwhile: the next look sees it
	}
	k.c.moving.book(best, k.p.now())
	return k.exchange(ctx, s, b, m)
}

// exchange replaces the flow by choice. When that fails with the old flow broken, the path is repaired.
func (k *keeper) exchange(ctx context.Context, s *sketch, b *blueprint, m Move) *end {
	broken, err := k.replace(ctx, s, b, m, true)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, host.ErrDenied):
		return rightsGone(err)
	case !broken:
		k.p.tell(Event{Kind: "move", Text: fmt.Sprintf("%s: not done: %v", m.Cause, err)})
		return nil
	}
	k.since = k.p.now()
	k.signs = []report{{from: k.flow.nodes[0], Report: host.Report{Kind: host.Fault, Hop: "all", Stage: "the move", Text: err.Error()}}}
	return k.repair(ctx)
}

// certificates is when to make the path anew because its hops would end; nil is never.
func (k *keeper) certificates() <-chan time.Time {
	if k.flow.certified.IsZero() {
		return nil
	}
	at := k.flow.certified.Add(-beforeEnd)
	if again := k.remaken.Add(againAfter); at.Before(again) {
		at = again
	}
	return time.After(at.Sub(k.p.now()))
}

// remake makes the path anew as it is: its hops end with the certificates that opened them.
func (k *keeper) remake(ctx context.Context) *end {
	k.remaken = k.p.now()
	s := *k.sketch
	return k.exchange(ctx, &s, k.flow.print, Move{
		Cause: CauseCertificates, Why: "its hops would end at " + k.flow.certified.UTC().Format(time.RFC3339), Before: k.flow.print.score,
	})
}

// where says where the operators of a plan run.
func (b *blueprint) where() string {
	var all []string
	for _, s := range b.steps {
		all = append(all, s.Operator+"@"+s.Node.Name())
	}
	return strings.Join(all, " ! ")
}
