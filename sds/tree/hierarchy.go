package tree

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// hierarchy is a server's place in one hierarchy: its routing table there. The goroutine of run owns all but view,
// which readers load, and the accounts of the children.
type hierarchy struct {
	*Node
	name     string
	ctx      context.Context // ended when the hierarchy is closed
	end      context.CancelFunc
	commands chan func()
	view     atomic.Pointer[[]*neighbour]
	moving   sync.Mutex // held while it is joined elsewhere or left

	ascent   *ascent            // to the parent; nil: the server is the root here
	coming   *ascent            // that is to take its place
	unfollow context.CancelFunc // of the content, which is followed for the parent
	children map[ca.ID]*child
	up       *neighbour // the parent that was found last; nil is none yet
	line     []ca.ID    // the ancestors, the nearest first, the parent included
	content  *content
	planner  summary.Planner
	demand   summary.Demand // of the subtree
	useless  float64        // the worst share below that was told
	sequence uint64
	whole    bool          // the parent is to be sent all
	sent     summary.Check // of what it was sent last
	told     uint64        // services that it was told of last
	wishes   chan *summary.Question
	wished   atomic.Int64 // questions of this period
}

// child is the owner's view of one child.
type child struct {
	*neighbour
	table   *summary.Table
	held    bool   // nothing is told for it
	parts   []byte // of a message that is coming
	wishes  []summary.Wish
	useless float64
	lagging int // periods in which it told of a summary that has not come
}

func newHierarchy(n *Node, name string) *hierarchy {
	h := &hierarchy{
		Node: n, name: name, content: newContent(), commands: make(chan func(), 256), children: make(map[ca.ID]*child), whole: true,
		wishes: make(chan *summary.Question, 256),
	}
	h.ctx, h.end = context.WithCancel(n.rootCtx)
	h.view.Store(&[]*neighbour{})
	return h
}

// run owns the hierarchy's state until it is closed.
func (h *hierarchy) run() {
	tick := time.NewTimer(h.cfg.World.Jitter(h.cfg.Period))
	defer tick.Stop()
	for {
		select {
		case f := <-h.commands:
			f()
		case q := <-h.wishes:
			h.demand.Note(q)
		case <-tick.C:
			h.period()
			tick.Reset(h.cfg.Period)
		case <-h.ctx.Done():
			return
		}
	}
}

// do has the owner run f. It reports whether it will.
func (h *hierarchy) do(ctx context.Context, f func()) bool {
	select {
	case h.commands <- f:
		return true
	case <-ctx.Done():
		return false
	case <-h.ctx.Done():
		return false
	}
}

// wait is do, and waits until f has run.
func (h *hierarchy) wait(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	if !h.do(ctx, func() { f(); close(done) }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// publish makes the neighbours as they are now what readers see.
func (h *hierarchy) publish() {
	var out []*neighbour
	for _, c := range h.children {
		nb := *c.neighbour
		nb.table = c.table
		c.neighbour = &nb
		out = append(out, &nb)
	}
	slices.SortFunc(out, func(a, b *neighbour) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	if h.up != nil {
		out = append(out, h.up)
	}
	h.view.Store(&out)
}

// period judges the children, sends the parent what has changed, and all a beat.
func (h *hierarchy) period() {
	now := time.Now()
	changed := false
	h.useless = 0
	h.wished.Store(0)
	for id, c := range h.children {
		age := now.Sub(time.Unix(0, c.heard.Load()))
		c.overdue()
		c.account.mu.Lock()
		was, flag := c.account.Flag, c.account.Period(c.table, age, h.cfg.Period)
		useless := c.account.Useless()
		c.account.mu.Unlock()
		if flag != was {
			h.cfg.Log.Warn("child flagged", "hierarchy", h.name, "child", id, "flag", string(flag), "account", c.account.String())
		}
		h.hold(c, flag == summary.Lying || flag == summary.Overfull)
		if flag == "" {
			h.useless = max(h.useless, useless, c.useless)
		}
		if c.stream == nil && age > forgetAfter {
			h.forget(id, c)
			changed = true
		}
	}
	if h.ascent == nil {
		h.replan()
	} else {
		h.retoken(h.cfg.World.Now())
		h.tellParent()
	}
	for _, c := range h.children {
		h.beatDown(c)
	}
	h.demand.Fade(0.9)
	if changed {
		h.publish()
		h.close()
	}
}

// hold takes back what is told for a child that lies, or tells it again. Otherwise this server would mislead whoever asks
// it as it was misled, and be blamed.
func (h *hierarchy) hold(c *child, held bool) {
	if c.held == held {
		return
	}
	if c.held = held; h.ascent == nil {
		return
	}
	if held {
		h.content.change(nil, c.table.Set())
	} else {
		h.content.change(c.table.Set(), nil)
	}
}

// withholds reports whether something below is told nothing for.
func (h *hierarchy) withholds() bool {
	for _, c := range h.children {
		if c.held || c.withholds.Load() {
			return true
		}
	}
	return false
}

// forget lets go of a child that has long been away, or left.
func (h *hierarchy) forget(id ca.ID, c *child) {
	if h.ascent != nil && !c.held {
		h.content.change(nil, c.table.Set())
	}
	delete(h.children, id)
}

// replan has the root make the plan that all follow.
func (h *hierarchy) replan() {
	var all summary.Demand
	all.Add(h.demand.Top(summary.WishesMost))
	for _, c := range h.children {
		all.Add(c.wishes)
	}
	if plan, changed := h.planner.Next(&all, h.useless); changed {
		h.cfg.Log.Debug("plan", "hierarchy", h.name, "epoch", plan.Epoch, "pairs", len(plan.Pairs), "triples", len(plan.Triples))
	}
}

// plan is the one that holds here.
func (h *hierarchy) plan() summary.Plan {
	if h.ascent == nil {
		return h.planner.Plan()
	}
	return h.content.plan
}

func (h *hierarchy) beatDown(c *child) {
	if c.stream == nil {
		return
	}
	b := &treepb.Beat{Plan: planMessage(h.plan())}
	for _, id := range h.line {
		b.Line = append(b.Line, string(id))
	}
	c.stream.mention(&treepb.Frame{Kind: &treepb.Frame_Beat{Beat: b}})
}

// tellParent sends a summary when something has changed and the one before is on its way, then a beat.
func (h *hierarchy) tellParent() {
	if h.up == nil || h.up.stream == nil {
		return
	}
	s := h.up.stream
	if len(s.bulk) == 0 && (h.whole || h.content.terms.Changed() > 0 || h.content.replanned || h.services() != h.told) {
		h.sendSummary(s)
	}
	var all summary.Demand
	all.Add(h.demand.Top(summary.WishesMost))
	for _, c := range h.children {
		all.Add(c.wishes)
	}
	b := &treepb.Beat{Sequence: h.sequence, Useless: h.useless, Withholds: h.withholds()}
	for _, w := range all.Top(summary.WishesMost) {
		b.Wishes = append(b.Wishes, &treepb.Wish{Key: uint32(w.Key), Pairs: w.Pairs, Triples: w.Triple})
	}
	// Behind the parts of the summary, so that it confirms what has come.
	select {
	case s.bulk <- &treepb.Frame{Kind: &treepb.Frame_Beat{Beat: b}}:
	default:
	}
}

// summaryContext is what a summary's signature is made under.
const summaryContext = "ninja summary 1"

// partSize is how much of a summary goes in one frame.
const partSize = 128 << 10

func (h *hierarchy) sendSummary(s *stream) {
	h.sequence++
	m := &summary.Message{Sequence: h.sequence, Change: !h.whole, Plan: h.common(), Services: h.services()}
	m.Terms, m.Check = h.content.terms.Len(), h.content.terms.Check()
	if m.Terms > summary.MaxTerms {
		h.cfg.Log.Error("the summary is too large: spread the services over more servers", "hierarchy", h.name, "terms", m.Terms)
		return
	}
	if h.whole {
		m.Added = h.content.terms.Set()
	} else {
		m.Added, m.Removed = h.content.terms.Delta()
	}
	h.whole, h.content.replanned, h.sent, h.told = false, false, m.Check, m.Services
	b := m.Encode()
	signature := h.cfg.Identity.Sign(summaryContext, signed(h.name, b))
	for len(b) > 0 {
		n := min(len(b), partSize)
		p := &treepb.Part{Data: b[:n], Last: n == len(b)}
		if p.Last {
			p.Signature = signature
		}
		select {
		case s.bulk <- &treepb.Frame{Kind: &treepb.Frame_Part{Part: p}}:
		case <-s.ctx.Done():
			return
		}
		b = b[n:]
	}
}

// signed is what is signed of a message: with the hierarchy, so that it fits into no other.
func signed(hierarchy string, message []byte) []byte {
	return append(append([]byte(hierarchy), 0), message...)
}

// common is the plan that everything here was told by.
func (h *hierarchy) common() summary.Plan {
	plan := h.content.plan
	for _, c := range h.children {
		if c.table.Known() {
			plan = plan.Common(c.table.Plan())
		}
	}
	return plan
}

// services are those that everyone may find here and below. What a spawned server has is here too, and counts once.
func (h *hierarchy) services() uint64 {
	n := uint64(len(h.content.docs))
	for _, c := range h.children {
		if !h.ofFamily(c.neighbour) {
			n += c.table.Services()
		}
	}
	return n
}

// ofFamily reports whether a neighbour was spawned here and all that it has is here too.
func (n *Node) ofFamily(nb *neighbour) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return nb.spawned && n.copied[nb.id]
}

func planMessage(p summary.Plan) *treepb.Plan {
	m := &treepb.Plan{Epoch: p.Epoch}
	for _, k := range p.Pairs {
		m.Pairs = append(m.Pairs, uint32(k))
	}
	for _, k := range p.Triples {
		m.Triples = append(m.Triples, uint32(k))
	}
	return m
}

func planFrom(m *treepb.Plan) (summary.Plan, error) {
	if len(m.GetPairs()) > summary.MaxPairs || len(m.GetTriples()) > summary.MaxTriples {
		return summary.Plan{}, fmt.Errorf("a plan of too many keys")
	}
	p := summary.Plan{Epoch: m.GetEpoch()}
	for _, k := range m.GetPairs() {
		p.Pairs = append(p.Pairs, summary.Key(k))
	}
	for _, k := range m.GetTriples() {
		p.Triples = append(p.Triples, summary.Key(k))
	}
	return p, p.Check()
}

// backoff waits before another try, longer each time.
func (n *Node) backoff(ctx context.Context, wait *time.Duration) error {
	err := world.Sleep(ctx, n.cfg.World.Jitter(*wait))
	*wait = min(2**wait, backoffMost)
	return err
}

const (
	backoffLeast = 50 * time.Millisecond
	backoffMost  = 5 * time.Second
)
