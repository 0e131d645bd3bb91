package tree

import (
	"time"

	"ninja/sds/route"
)

// overduePeriods is how long, in periods, a branch may take that the question reaches after so many servers, before it is
// charged for it: the first server waits longest, so that who is at fault is found out by the server next to it.
func overduePeriods(hops int) int { return max(1, 4-(route.HopsMost-1-hops)) }

// overdueCharge is how many useless answers a child is charged with that lets others wait: five times makes it flagged,
// unless it answers most other questions.
const overdueCharge = 5

// answered notes how long an answer took.
func (a *account) answered(took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.usual += (took - a.usual) / 8
}

// fair is how much time the child must have had to be charged for being late: four times what it usually takes.
func (a *account) fair(period time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(period/16, 4*a.usual)
}

func (q *inquiry) overdueAfter(hops int) time.Duration {
	return time.Duration(overduePeriods(hops)) * q.cfg.Period
}

// overdue charges a child for what it has not answered, and when that makes it flagged, has nobody wait for it any longer.
func (c *child) overdue() {
	if c.stream == nil {
		return
	}
	now, open := time.Now(), c.stream.branches()
	for _, b := range open {
		b.charge(now)
	}
	if c.account.flagged() {
		for _, b := range open {
			b.setAside()
		}
	}
}

// branches are the questions under way on the stream.
func (s *stream) branches() (out []*branch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.pending {
		if b, ok := w.(*branch); ok {
			out = append(out, b)
		}
	}
	return out
}

// charge charges the child for every period that the branch is overdue. It had its time whether or not its summary promised
// anything; a branch with much to tell has it for each part, and is not overdue while it is its asker who is slow.
func (b *branch) charge(now time.Time) {
	b.q.mu.Lock()
	defer b.q.mu.Unlock()
	if b.over || b.nb.up || b.q.alone || b.size > 0 || now.Sub(b.busy) < b.after || now.Sub(b.charged) < b.nb.period/2 {
		return
	}
	b.charged = now
	for range overdueCharge {
		b.nb.account.note(false, true)
	}
}

// setAside lets the inquiry go on without the branch. What it says before the others are at an end still counts.
func (b *branch) setAside() {
	q := b.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if b.over || q.over || b.aside || q.alone {
		return
	}
	b.aside = true
	q.waiting--
	q.next()
}
