package apc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/operators/host"
)

// checkEvery is how often the capability of a running path is checked against what was revoked.
const checkEvery = 2 * time.Second

// renewal has a path run under another capability.
type renewal struct {
	token  []byte
	claims capability.Claims
	done   chan error // of room for one
}

// keeper looks after a running path: its goroutine, run, owns the flow and replaces it when a node is lost, when there is
// something better, and when the certificates of the hops are about to end.
type keeper struct {
	c      *Creator
	p      *path
	sketch *sketch // what the present flow was planned with
	flow   *flow
	hear   context.CancelFunc // ends the listeners of the flow

	signs   []report         // what was heard that something is wrong
	since   time.Time        // when the first of them was
	due     <-chan time.Time // when it is judged; nil while nothing is wrong
	cut     map[ca.ID]bool   // nodes that control was lost of
	ended   map[*node]bool   // nodes whose stages have come to their end
	history history
	outlook
	renewing bool
	renewed  chan renewed
}

// renewed is how the renewal of a flow's leases went.
type renewed struct {
	of  *flow
	err error
}

func (c *Creator) keeper(p *path, s *sketch, f *flow) *keeper {
	return &keeper{
		c: c, p: p, sketch: s, flow: f, cut: make(map[ca.ID]bool), ended: make(map[*node]bool), history: newHistory(),
		renewed: make(chan renewed, 1),
	}
}

// run watches the path until it ends, and takes it down.
func (k *keeper) run(ctx context.Context) {
	defer close(k.p.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.follow(ctx)
	state, why := k.watch(ctx)
	cancel()
	if state == Failed {
		k.p.tell(Event{Kind: "fault", Text: why})
	}
	k.flow.tearDown()
	k.p.become(state, why)
}

// end is how a path ended; nil while it has not.
type end struct {
	state State
	why   string
}

var errRights = errors.New("the rights that it runs under are gone")

// rightsGone is the end of a path whose rights are: it is not made again.
func rightsGone(err error) *end { return &end{Ended, fmt.Sprintf("%v: %v", errRights, err)} }

func (k *keeper) watch(ctx context.Context) (State, string) {
	renew, check := time.NewTicker(renewEvery), time.NewTicker(checkEvery)
	defer renew.Stop()
	defer check.Stop()
	_, expires := k.p.rights()
	lapse := time.NewTimer(expires.Sub(k.p.now()))
	defer lapse.Stop()
	look := time.NewTimer(k.firstLook())
	defer look.Stop()
	for {
		var e *end
		select {
		case <-ctx.Done():
			return Ended, k.stopped()
		case <-lapse.C:
			return Ended, "the capability that it runs under has lapsed (ninjactl path renew renews it)"
		case r := <-k.p.renewals:
			if k.renew(ctx, r) {
				lapse.Reset(r.claims.Expires.Sub(k.p.now()))
			}
		case <-check.C:
			e = k.check()
		case <-renew.C:
			k.renewLeases(ctx)
		case r := <-k.renewed:
			k.renewing = false
			e = k.leases(r)
		case r := <-k.flow.reports:
			e = k.take(r)
		case <-k.due:
			e = k.repair(ctx)
		case <-k.certificates():
			e = k.remake(ctx)
		case <-look.C:
			e = k.look(ctx)
			look.Reset(k.nextLook())
		}
		if e != nil {
			return e.state, e.why
		}
	}
}

// stopped is why the keeper was told to end.
func (k *keeper) stopped() string {
	if k.c.live.Err() != nil {
		return "the creator has stopped"
	}
	return "deleted"
}

// check ends a path whose capability was revoked.
func (k *keeper) check() *end {
	token, _ := k.p.rights()
	if _, err := k.c.cfg.Claims(token); err != nil {
		return rightsGone(err)
	}
	return nil
}

// renewLeases renews the leases beside the keeper's other work, one renewal at a time.
func (k *keeper) renewLeases(ctx context.Context) {
	if k.renewing {
		return
	}
	k.renewing = true
	f := k.flow
	token, _ := k.p.rights()
	go func() { k.renewed <- renewed{f, f.renew(ctx, token)} }()
}

// leases takes in how a renewal went. A node that does not permit the path any more has taken down its part.
func (k *keeper) leases(r renewed) *end {
	switch {
	case r.err == nil || r.of != k.flow:
		return nil
	case errors.Is(r.err, host.ErrDenied):
		return rightsGone(r.err)
	}
	k.p.log.Warn("a lease was not renewed", "error", r.err)
	return nil
}

// renew has the path run under another capability; it reports whether it does.
func (k *keeper) renew(ctx context.Context, r renewal) bool {
	err := k.flow.renew(ctx, r.token)
	if err == nil {
		k.p.renewed(r.token, r.claims.Expires)
		k.p.tell(Event{Kind: "renewed", Text: "the path may run until " + r.claims.Expires.UTC().Format(time.RFC3339)})
	}
	r.done <- err
	return err == nil
}

// take takes in what a node told or what became of the control of it.
func (k *keeper) take(r report) *end {
	switch id := r.from.id; {
	case r.back:
		delete(k.cut, id)
	case r.cut:
		k.cut[id] = true
		k.corroborate()
	case r.lost != nil && errors.Is(r.lost, host.ErrDenied):
		return rightsGone(r.lost)
	case r.lost != nil && !k.ended[r.from]:
		k.suspect(r, 0)
	case r.lost != nil:
	case r.Kind == host.Fault:
		k.p.log.Info("fault", "node", id, "stage", r.Stage, "hop", r.Hop, "text", r.Text)
		if r.Hop == "" && r.Stage != "" { // it says itself what is wrong
			k.suspect(r, 0)
		} else {
			k.suspect(r, blameTime)
			k.corroborate()
		}
	case r.Kind == host.Ended:
		k.p.measured(r.from, r.Report)
		if k.ended[r.from] = true; id == k.flow.print.listener() {
			return &end{Ended, "the listener has heard the end, or hung up"}
		}
	default:
		k.p.measured(r.from, r.Report)
	}
	return nil
}

// suspect notes a sign that something is wrong, to be judged after a while at the latest.
func (k *keeper) suspect(r report, wait time.Duration) {
	if k.signs == nil {
		k.since = k.p.now()
	}
	k.signs = append(k.signs, r)
	if k.due == nil || wait == 0 {
		k.due = time.After(wait)
	}
}

// corroborate has two witnesses judged at once: a neighbour that accuses a node, and the way to it that is cut. An endpoint
// gets its moment even so: nothing can take its place, and it may answer again.
func (k *keeper) corroborate() {
	for _, r := range k.signs {
		if k.cut[r.Neighbour] && !k.flow.print.ends(r.Neighbour) {
			k.due = time.After(0)
		}
	}
}

// follow listens to the flow that runs now.
func (k *keeper) follow(ctx context.Context) {
	ctx, k.hear = context.WithCancel(ctx)
	k.flow.listen(ctx, func() []byte { token, _ := k.p.rights(); return token })
	k.signs, k.due = nil, nil
	clear(k.cut)
	clear(k.ended)
}

// replace makes another flow, in which the stages go on that stay where they are, and lets the old one go once the new one
// has started and what was under way has arrived: make before break. With beside false the old one goes first, for nodes
// that cannot hold both. The error leaves the old flow as it was unless broken.
func (k *keeper) replace(ctx context.Context, s *sketch, b *blueprint, m Move, beside bool) (broken bool, err error) {
	epoch := k.epoch() + 1
	k.highest = epoch
	next := k.p.flow(k.c.cfg.Open, b, epoch)
	if beside {
		next.carry(k.flow, m.drain())
	}
	token, _ := k.p.rights()
	begun := k.p.now()
	if err := next.set(ctx, token, beside); err != nil {
		return !beside, err
	}
	if m.Cause == CauseCertificates && !next.certified.After(k.flow.certified) {
		next.tearDown()
		return false, errNoNewer
	}
	if m.Cause != CauseRepair {
		begun = k.p.now()
	}
	k.hear() // what the old flow's nodes tell from now on is of their being left
	if err := next.start(ctx); err != nil {
		return true, err
	}
	m.Time, m.Epoch, m.After, m.Steps = k.p.now(), epoch, b.score, b.where()
	m.Gap += m.Time.Sub(begun)
	old, now := k.flow, *s
	now.print, now.best = b, b.plan
	k.flow, k.sketch = next, &now
	k.p.adopt(next, &m)
	k.follow(ctx)
	k.p.tell(Event{Kind: "move", Text: fmt.Sprintf("%s: %s; epoch %d, gap %v: %s", m.Cause, m.Why, epoch, m.Gap.Round(time.Microsecond), m.Steps)})
	k.c.kept.Go(func() {
		_ = world.Sleep(ctx, next.drain) // when the path ends the old flow has no more to bring
		old.leave(func(n *node) bool { return !next.has(n.id) })
	})
	k.c.kept.Go(func() { k.c.prepare(ctx, k.p, &now, epoch) })
	return false, nil
}

var errNoNewer = errors.New("no node has a newer certificate yet")

func (f *flow) has(id ca.ID) bool {
	for _, n := range f.nodes {
		if n.id == id {
			return true
		}
	}
	return false
}
