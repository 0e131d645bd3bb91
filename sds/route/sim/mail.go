package sim

import (
	"maps"

	"ninja/sds/summary"
)

// mail is a message on the way.
type mail struct {
	bytes   []byte
	due     int         // period
	horizon map[int]int // of the sender when it was made
}

// send puts what has changed on the way to the parent.
func (r *run) send(n *node) {
	n.sent, n.changed = 0, 0
	if n.parent == nil {
		return
	}
	if n.cut {
		n.whole, n.queue = n.whole || len(n.queue) > 0, nil // what was on the way is lost with the link
		return
	}
	m := &summary.Message{Services: uint64(n.behind()), Plan: n.common()}
	n.sequence++
	m.Sequence, m.Change, m.Check, m.Terms = n.sequence, !n.whole, n.own.Check(), n.own.Len()
	if n.whole {
		m.Added = n.own.Set()
	} else {
		m.Added, m.Removed = n.own.Delta()
	}
	n.again, n.whole = n.whole, false
	due := r.period + 1
	if n.late {
		due++
	}
	if k := len(n.queue); k > 0 {
		due = max(due, n.queue[k-1].due) // a stream keeps its order
	}
	n.horizon[n.at] = r.period
	b := m.Encode()
	n.queue = append(n.queue, &mail{b, due, maps.Clone(n.horizon)})
	if n.changed = len(m.Added) + len(m.Removed); n.changed > 0 { // else a beat says that nothing has changed
		n.sent = len(b)
	}
}

// deliver hands the parent what is due, which passes it on in what it tells itself.
func (r *run) deliver(n *node) error {
	for len(n.queue) > 0 && n.queue[0].due <= r.period { // what was due came before a link went down
		letter := n.queue[0]
		n.queue = n.queue[1:]
		m, err := summary.Decode(letter.bytes)
		if err != nil {
			return err
		}
		p := n.parent
		old := p.tables[n]
		if p.tables[n], err = old.Apply(m); err != nil {
			return err
		}
		if p.parent != nil {
			p.pass(old, m)
		}
		maps.Copy(p.horizon, letter.horizon)
	}
	return nil
}

// pass has what a child told become part of what the server tells.
func (n *node) pass(old *summary.Table, m *summary.Message) {
	added, removed := m.Added, m.Removed
	if !m.Change {
		added, removed = summary.Differences(old.Set(), m.Added)
	}
	for _, t := range added {
		n.own.Add(t)
	}
	for _, t := range removed {
		n.own.Remove(t)
	}
}

// common is the plan that all of what the server tells was told by.
func (n *node) common() summary.Plan {
	plan := n.plan
	for _, t := range n.tables {
		if t.Known() {
			plan = plan.Common(t.Plan())
		}
	}
	return plan
}

// behind is how many services the server and those below it have.
func (n *node) behind() int {
	k := len(n.services)
	for _, t := range n.tables {
		k += int(t.Services())
	}
	return k
}
