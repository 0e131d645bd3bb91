package tree

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// onward is where a question goes from here. The inquiry's mu guards it.
type onward struct {
	who     []*neighbour
	steps   []route.Step // that are still to be taken
	probes  []route.Step // to flagged children, whom nobody waits for
	until   time.Time    // when those that have not answered are late
	timer   *time.Timer
	slow    *time.Timer // ends what the asker does not take
	open    []*branch   // that were asked
	waiting int         // of them, that are not at an end and are waited for
	one     branch      // the first of them
	held    []held      // what was said and the asker does not take yet
	ending  bool        // all is at an end but held
	alone   bool        // the question is for one server further on: what that says is the answer
}

// held is an answer of a branch that is to be told.
type held struct {
	by *branch
	m  *answer
}

// plan notes where the question goes, without children that have used up what flagged ones are asked. Those that have not
// are asked, but not waited for: whoever is flagged holds up nobody.
func (q *inquiry) plan(who []*neighbour, steps []route.Step) {
	q.who = who
	q.steps = steps[:0]
	for _, s := range steps {
		q.until = time.Now().Add(s.Left) // the same for all
		nb := who[s.Branch]
		ask, flagged := true, false
		if !nb.up {
			ask, flagged = nb.account.admit()
		}
		switch {
		case !ask:
			q.last.outcomes = append(q.last.outcomes, packOutcome(q.outcome(nb, route.Flagged)))
		case flagged:
			q.probes = append(q.probes, s)
		default:
			q.steps = append(q.steps, s)
		}
	}
	slices.SortStableFunc(q.steps, func(a, b route.Step) int { return a.Phase - b.Phase })
}

// proceed goes on when this server has been searched.
func (q *inquiry) proceed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over {
		return
	}
	for _, s := range q.probes {
		q.forward(s, windowLeast, true)
	}
	q.next()
}

// next asks the branches of the next phase when those before are at an end, while something is wanted still. It ends the
// inquiry when there are none.
func (q *inquiry) next() {
	for q.waiting == 0 && !q.over {
		if len(q.steps) == 0 {
			q.finish()
			return
		}
		n := 1
		for n < len(q.steps) && q.steps[n].Phase == q.steps[0].Phase {
			n++
		}
		now := q.steps[:n]
		q.steps = q.steps[n:]
		window := min(windowMost, max(windowLeast, windowAll/len(now)))
		for _, s := range now {
			if q.enough() {
				q.last.outcomes = append(q.last.outcomes, packOutcome(q.outcome(q.who[s.Branch], route.Unneeded)))
			} else {
				q.forward(s, window, false)
			}
		}
	}
}

// enough reports whether the first that are wanted have been found.
func (q *inquiry) enough() bool { return q.want == route.First && q.found >= q.question.local.Limit }

// forward asks one branch.
func (q *inquiry) forward(s route.Step, window int, aside bool) {
	b := &q.one
	if b.q != nil {
		b = new(branch)
	}
	now := time.Now()
	*b = branch{q: q, nb: q.who[s.Branch], begun: now, busy: now, aside: aside, purse: purse{window: window}, after: q.overdueAfter(s.Hops)}
	s.Left = q.until.Sub(b.begun)
	if s.Left <= 0 {
		q.ended(b, context.DeadlineExceeded)
		return
	}
	a := q.onwardAsk(s, b.nb)
	a.Window = uint32(window)
	var err error
	if b.id, err = b.nb.stream.question(a, b, b.nb.stream.post); err != nil {
		q.ended(b, errLinkLost)
		return
	}
	q.open = append(q.open, b)
	if !aside {
		q.waiting++
	}
	if q.timer == nil {
		q.timer = time.AfterFunc(s.Left, q.late)
	}
}

// onwardAsk is the question as the next server gets it: what it needs to route, not the capability.
func (q *inquiry) onwardAsk(s route.Step, nb *neighbour) *treepb.Ask {
	a := q.ask
	domain := a.GetDomain()
	if q.from.client != nil {
		domain = q.self.Domain()
	}
	out := &treepb.Ask{
		Query: a.GetQuery(), Question: a.GetQuestion(), Scope: a.GetScope(), Want: a.GetWant(), Hierarchy: nb.hierarchy, Domain: domain,
		Hops: uint32(s.Hops), TimeoutMs: uint32(max(1, s.Left.Milliseconds())), Fanout: a.GetFanout(), Tokens: a.GetTokens(), Proof: a.GetProof(), Narrowed: a.GetNarrowed(),
	}
	if len(a.GetWay()) > 0 {
		if out.Way = a.GetWay()[1:]; len(out.Way) == 0 {
			out.Scope = uint32(route.Local)
		}
	}
	return out
}

// passOn tells what a branch said: at the end, when nobody else is waited for, else now.
func (q *inquiry) passOn(b *branch, m *answer, atEnd bool) error {
	if !atEnd || q.last.room()+m.room() > answerSize {
		return q.tellOf(b, m)
	}
	q.last.hits, q.last.sealed = append(q.last.hits, m.hits...), append(q.last.sealed, m.sealed...)
	q.last.outcomes = append(q.last.outcomes, m.outcomes...)
	return nil
}

// tellOf tells what a branch said, or holds it until the asker takes it. The branch is given no credit for what is held.
func (q *inquiry) tellOf(b *branch, m *answer) error {
	if m.empty() {
		return nil
	}
	if len(q.held) == 0 {
		err := q.out.tell(m, false)
		if err == nil {
			b.purse.took(b.nb.stream, b.id, m)
		}
		if !errors.Is(err, errBusy) {
			return err
		}
		q.reply.uponMore(q.more)
	}
	if b.size += len(m.whole); b.size > 2*b.purse.window+messageMost {
		return status.Errorf(codes.ResourceExhausted, "%s sent more than it was asked for", b.nb.id)
	}
	q.held = append(q.held, held{b, m})
	return nil
}

// more tells what was held when the asker takes more.
func (q *inquiry) more() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.held) > 0 && (!q.over || q.ending) {
		h := q.held[0]
		if err := q.out.tell(h.m, false); err != nil {
			return
		}
		q.held[0] = held{}
		q.held = q.held[1:]
		h.by.size -= len(h.m.whole)
		h.by.busy = time.Now()
		if !h.by.over {
			h.by.purse.took(h.by.nb.stream, h.by.id, h.m)
		}
	}
	if len(q.held) == 0 && q.ending {
		q.ending = false
		q.tellLast()
	}
}

// ended takes note of what became of a branch.
func (q *inquiry) ended(b *branch, err error) {
	if q.alone {
		if err != nil {
			q.failing(err)
		}
		return
	}
	became := statusOf(err)
	if became != route.Unreachable && became != route.Unneeded {
		b.note(err)
	}
	switch {
	case err == nil && b.named:
		return
	case err == nil: // it owes an account of itself
		became = route.Searched
	}
	o := q.outcome(b.nb, became)
	o.Took = time.Since(b.begun)
	if o.Status == route.Failed {
		o.Detail = status.Convert(err).Message()
	}
	q.last.outcomes = append(q.last.outcomes, packOutcome(o))
}

// giveUp ends the branches that are still open.
func (q *inquiry) giveUp(why error) {
	for _, b := range q.open {
		if !b.over {
			b.end()
			b.nb.stream.forget(b.id)
			q.ended(b, why)
		}
	}
}

// late ends the branches that have not answered in time.
func (q *inquiry) late() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over { // those that were not waited for
		for _, b := range q.open {
			if !b.over {
				b.end()
				b.nb.stream.forget(b.id)
				b.note(context.DeadlineExceeded)
			}
		}
		return
	}
	q.giveUp(context.DeadlineExceeded)
	if !q.over {
		q.next()
	}
}

// finish says the last of it.
func (q *inquiry) finish() {
	q.over, q.last.last = true, true
	for _, b := range q.open {
		if !b.over {
			q.last.outcomes = append(q.last.outcomes, packOutcome(q.outcome(b.nb, route.Flagged)))
		}
	}
	if len(q.held) > 0 {
		q.ending = true
		q.slow = time.AfterFunc(time.Until(q.reply.until), q.giveIn)
		return
	}
	q.tellLast()
}

// giveIn ends the inquiry although the asker has not taken what was found.
func (q *inquiry) giveIn() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		q.ending, q.held = false, nil
		q.reply.refuse(status.Error(codes.DeadlineExceeded, errBusy.Error()))
		q.reply.close()
	}
}

func (q *inquiry) tellLast() {
	if q.slow != nil {
		q.slow.Stop()
	}
	if q.timer != nil && !slices.ContainsFunc(q.open, func(b *branch) bool { return !b.over }) {
		q.timer.Stop()
	}
	if q.out.heavy() {
		q.parts.Go(func() { _ = q.out.tell(&q.last, true); q.reply.close() })
		return
	}
	_ = q.out.tell(&q.last, false)
	q.reply.close()
}

// stop ends the inquiry; those that are still asked are told so. Whoever calls it sees to the reply.
func (q *inquiry) stop() {
	q.over = true
	if q.timer != nil {
		q.timer.Stop()
	}
	for _, b := range q.open {
		if !b.over {
			b.over = true
			b.nb.stream.forget(b.id)
		}
	}
}

// fail ends the inquiry with an error.
func (q *inquiry) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.over {
		q.failing(err)
	}
}

func (q *inquiry) failing(err error) {
	q.stop()
	q.reply.refuse(err)
	q.reply.close()
}

// cancelled: the asker has no more use for the answer. That says nothing of those who were asked.
func (q *inquiry) cancelled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		q.ending, q.held = false, nil
		q.slow.Stop()
		q.reply.close()
	}
	if !q.over {
		q.stop()
		q.reply.close()
	}
}

// pass sends a question on that is meant for one server alone, or says that there is no way.
func (q *inquiry) pass() {
	who, _ := q.neighbours("")
	for i, nb := range who {
		if string(nb.id) == q.ask.GetWay()[0] && nb.stream != nil {
			left := timeoutOf(q.ask)
			q.who, q.alone, q.until = who, true, time.Now().Add(left-left/20)
			q.steps = []route.Step{{Branch: i}}
			q.proceed()
			return
		}
	}
	q.fail(status.Errorf(codes.Unavailable, "%s is no neighbour of %s now", q.ask.GetWay()[0], q.self))
}
