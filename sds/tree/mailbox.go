package tree

import (
	"sync"

	"ninja/sds/tree/treepb"
)

// purse is what the other side may still send of the answers to a question, as the asker keeps it.
type purse struct {
	window, taken int
}

// took notes that an answer has been passed on, and gives credit for it when there is enough to say so.
func (p *purse) took(s *stream, id uint64, a *answer) {
	if p.taken += len(a.whole); p.taken >= p.window/4 && p.window > 0 && !a.last {
		_ = s.postAnyway(creditFrame(id, p.taken))
		p.taken = 0
	}
}

// mailbox is answers for a goroutine that asked. It holds no more than the question's window.
type mailbox struct {
	s     *stream
	id    uint64
	ready chan struct{} // there is something to take, or the answers are at an end
	purse purse         // of who takes

	mu   sync.Mutex
	all  []*answer
	size int
	over bool // the other side sent more than it was asked for: nothing follows
}

// ask sends a question whose answers are taken from a mailbox. The caller calls done on it.
func (s *stream) ask(a *treepb.Ask) (*mailbox, error) {
	a.Window = windowMost
	m := &mailbox{s: s, ready: make(chan struct{}, 1), purse: purse{window: windowMost}}
	var err error
	m.id, err = s.question(a, m, s.put)
	return m, err
}

// next is the next answer, or nil when none has come; ended is that none will.
func (m *mailbox) next() (a *answer, ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.all) == 0 {
		return nil, m.over
	}
	a = m.all[0]
	m.all[0] = nil
	m.all = m.all[1:]
	m.size -= len(a.whole)
	m.purse.took(m.s, m.id, a)
	return a, false
}

func (m *mailbox) done() { m.s.forget(m.id) }

func (m *mailbox) answered(a *answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.size += len(a.whole); m.size > 2*windowMost+messageMost {
		m.over = true
		m.s.forget(m.id)
	} else if !m.over {
		m.all = append(m.all, a)
	}
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// lost: who waits watches the stream's context too.
func (m *mailbox) lost() {}
