package tree

import (
	"slices"
	"sync"
	"sync/atomic"

	"ninja/sds"
	"ninja/sds/summary"
)

// seen remembers questions for as long as they can be under way, so that a server that stands in several hierarchies
// searches once for each.
type seen struct {
	mu       sync.Mutex
	new, old map[[16]byte]struct{}
}

const (
	seenLife = timeMost // of a generation; two are kept
	seenMost = 100_000  // of a generation
)

func newSeen() *seen { return &seen{new: make(map[[16]byte]struct{})} }

// before reports whether the question was here before, and remembers it.
func (s *seen) before(query [16]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.new[query]
	_, b := s.old[query]
	if !a && !b && len(s.new) < seenMost {
		s.new[query] = struct{}{}
	}
	return a || b
}

func (s *seen) turn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old, s.new = s.new, make(map[[16]byte]struct{})
}

// questions keeps questions compiled: the same ones are asked again and again.
type questions struct {
	mu sync.Mutex
	by map[string]*question
}

// question is one as it is answered here and as it is routed.
type question struct {
	local  *sds.Question
	routed *summary.Question // for those who may find what everyone may

	last atomic.Pointer[summary.Question] // with the tokens that it came with last
}

// with is the question as it is routed with tokens. What was worked out for it is kept while the same tokens come.
func (q *question) with(tokens []summary.Term) *summary.Question {
	if last := q.last.Load(); last != nil && slices.Equal(last.Tokens(), tokens) {
		return last
	}
	out := q.routed.With(tokens)
	q.last.Store(out)
	return out
}

const questionsMost = 1024

func newQuestions() *questions { return &questions{by: make(map[string]*question)} }

// of compiles a marshalled question, or finds it.
func (k *questions) of(b []byte) (*question, error) {
	k.mu.Lock()
	q := k.by[string(b)]
	k.mu.Unlock()
	if q != nil {
		return q, nil
	}
	local, err := sds.CompileQuestion(b)
	if err != nil {
		return nil, err
	}
	q = &question{local: local, routed: summary.Ask(local.Needs(sds.Anyone("")))}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.by) >= questionsMost {
		clear(k.by)
	}
	k.by[string(b)] = q
	return q, nil
}
