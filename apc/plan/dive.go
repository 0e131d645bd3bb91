package plan

import "container/heap"

// maxDive bounds the chains that are taken after the time has run out, to have any plan at all.
const maxDive = 2048

// dive looks for a complete chain from what the queue holds, taking first what has least left to do. It leaves in the
// queue what says how good a plan could still be.
func (s *search) dive(most int) {
	if len(s.q) == 0 {
		return
	}
	rest := &entry{least: s.q[0].least}
	d := diver{s.q}
	heap.Init(&d)
	for n := 0; len(d.queue) > 0 && n < most; n++ {
		e := heap.Pop(&d).(*entry)
		if e.labels == nil && !s.place(e) {
			continue
		}
		if e.done {
			if s.finish(e); s.best != nil {
				break
			}
			continue
		}
		if s.dominated(e) {
			continue
		}
		s.q = nil
		s.expand(e)
		for _, c := range s.q {
			heap.Push(&d, c)
		}
	}
	s.q = queue{rest}
}

// diver is the queue in another order.
type diver struct{ queue }

// Less puts what has least left to do first.
func (d *diver) Less(i, j int) bool {
	a, b := d.queue[i], d.queue[j]
	if a.left != b.left {
		return a.left < b.left
	}
	return d.queue.Less(i, j)
}
