package sds

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/sds/sdspb"
)

// memory keeps a session's questions compiled, by the bytes they came as, and what was answered to them last. It belongs
// to the session alone: what one asker was answered is never looked at for another.
type memory struct {
	by map[string]*asked
}

// asked is a question that was asked before.
type asked struct {
	question *question
	result   *result // nil when nothing is remembered
}

// Bounds of a session's memory.
const (
	askedMost    = 128     // questions
	askedBytes   = 1 << 10 // of one that is kept
	answeredMost = 16      // services in an answer that is kept: they are, even when they are gone
)

// question is the compiled question, as remembered or made by compile.
func (m *memory) question(packed []byte, compile func(*sdspb.Question) (*question, error)) (*asked, error) {
	if known := m.by[string(packed)]; known != nil {
		return known, nil
	}
	var q sdspb.Question
	if err := proto.Unmarshal(packed, &q); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	compiled, err := compile(&q)
	if err != nil {
		return nil, err
	}
	a := &asked{question: compiled}
	if len(packed) > askedBytes {
		return a, nil
	}
	if m.by == nil || len(m.by) >= askedMost {
		m.by = make(map[string]*asked)
	}
	m.by[string(packed)] = a
	return a, nil
}

// remember keeps an answer that may be given again.
func (a *asked) remember(r *result) {
	if a.result = nil; len(r.hits) <= answeredMost && !r.many && r.explain == nil && a.question.order == nil {
		a.result = r
	}
}

// forget drops the answers.
func (m *memory) forget() {
	for _, a := range m.by {
		a.result = nil
	}
}
