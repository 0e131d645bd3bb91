package sds

import (
	"runtime"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ninja/sds/packed"
	"ninja/sds/sdspb"
)

// reply is what a session has to send: an answer, an error, or, with neither, an acknowledgement.
type reply struct {
	id uint64
	answered
	err          error
	speaks, keep int // the answer to a hello: from here on, answers are gathered
}

// answered is a question with its answer.
type answered struct {
	question *question
	result   *result
}

// Bounds of what is told once a session.
const (
	keepMost  = 1024    // services, and chains, that either end keeps by handle
	keepBytes = 4 << 10 // the longest description that is kept
)

// speaker sends a session's replies: all that wait as one message, and of a service that was sent before only what may
// have changed. It belongs to one goroutine.
type speaker struct {
	stream   grpc.ServerStreamingServer[sdspb.SessionResponse]
	cursors  *cursors
	gathers  bool // the client understands SessionResponse.answers
	services handles[uint64, chain]
	chains   handles[chain, struct{}]

	message []byte // of answers that are gathered
	ends    []int  // of each, in message
	found   []byte // scratch
}

// send sends replies and those that wait behind them.
func (s *speaker) send(replies []reply, more <-chan []reply) error {
	now := time.Now()
	if len(more) == 0 {
		runtime.Gosched() // whoever can answer now does so first
	}
	for {
		for i := range replies {
			if err := s.add(&replies[i], now); err != nil {
				return err
			}
		}
		select {
		case next, ok := <-more:
			if ok {
				replies = next
				continue
			}
		default:
		}
		return s.flush()
	}
}

// add packs a reply.
func (s *speaker) add(r *reply, now time.Time) error {
	switch {
	case r.speaks > 0:
		if err := s.flush(); err != nil {
			return err
		}
		s.gathers, s.services.most, s.chains.most = true, r.keep, r.keep
		return s.stream.Send(&sdspb.SessionResponse{Speaks: uint32(r.speaks)})
	case r.err != nil:
		st := status.Convert(r.err)
		s.message = packed.AppendNumber(s.message, answerID, r.id)
		s.message = packed.AppendNumber(s.message, answerLast, 1)
		s.message = packed.AppendNumber(s.message, answerCode, uint64(st.Code()))
		s.message = packed.AppendText(s.message, answerError, strings.ToValidUTF8(st.Message(), "\ufffd"))
		return s.end()
	case r.result == nil:
		s.message = packed.AppendNumber(s.message, answerID, r.id)
		s.message = packed.AppendNumber(s.message, answerLast, 1)
		return s.end()
	}
	return s.answer(r.id, r.question, r.result, now)
}

// answer packs an answer, in as many pieces as it takes.
func (s *speaker) answer(id uint64, q *question, res *result, now time.Time) error {
	begun := len(s.message)
	s.message = packed.AppendNumber(s.message, answerID, id)
	for i := range res.hits {
		s.pack(q, res.hits[i].record, now)
		if len(s.message)-begun > answerHead && len(s.message)-begun+len(s.found) > maxAnswer {
			if err := s.end(); err != nil {
				return err
			}
			begun = len(s.message)
			s.message = packed.AppendNumber(s.message, answerID, id)
		}
		s.message = packed.AppendText(s.message, answerFound, s.found)
	}
	s.message = packed.AppendNumber(s.message, answerLast, 1)
	s.message = packed.AppendNumber(s.message, answerCount, uint64(res.count))
	if res.more(q) {
		s.message = packed.AppendNumber(s.message, answerMore, 1)
		if n := len(res.hits); n > 0 {
			s.message = packed.AppendText(s.message, answerCursor, s.cursors.seal(q.subject(), &res.hits[n-1]))
		}
	}
	if res.explain != nil {
		b, err := proto.Marshal(res.explain)
		if err != nil {
			return err
		}
		s.message = packed.AppendText(s.message, answerExplain, b)
	}
	return s.end()
}

// answerHead is more than the ID takes.
const answerHead = 16

// end ends a piece, and sends what was gathered when that is much, or the client wants each on its own.
func (s *speaker) end() error {
	s.ends = append(s.ends, len(s.message))
	if !s.gathers || len(s.message) > maxAnswer || len(s.ends) == sessionAsks {
		return s.flush()
	}
	return nil
}

// flush sends what was gathered.
func (s *speaker) flush() error {
	if len(s.ends) == 0 {
		return nil
	}
	m, from := new(sdspb.SessionResponse), 0
	if s.gathers {
		m.Answers = make([][]byte, len(s.ends))
		for i, end := range s.ends {
			m.Answers[i] = s.message[from:end]
			from = end
		}
	} else if err := proto.Unmarshal(s.message, m); err != nil { // it is one
		return err
	}
	err := s.stream.Send(m) // which has packed it when it returns
	s.message, s.ends = s.message[:0], s.ends[:0]
	return err
}

// pack puts into found what travels of a service: all of it, what was selected, or, when it was sent before, no more
// than numbers and age.
func (s *speaker) pack(q *question, r *record, now time.Time) {
	live := r.live.Load()
	b := s.found[:0]
	b = packed.AppendNumber(b, foundAge, uint64(max(0, now.Sub(live.heard)).Milliseconds()))
	b = appendNumbers(b, live.numbers)
	if q.selected == nil {
		if known, with := s.services.have(r.serial); known > 0 && with == live.chain {
			s.found = packed.AppendNumber(b, foundHandle, uint64(known))
			return
		}
	}
	b = packed.AppendText(b, foundOwner, r.Owner)
	b = packed.AppendText(b, foundName, r.name())
	b = packed.AppendNumber(b, foundVersion, r.version)
	if q.selected != nil {
		s.found = appendSelected(b, q, r)
		return
	}
	b = packed.AppendText(b, foundDescription, r.Tree.Source())
	b = packed.AppendText(b, foundSignature, r.signature)
	known, _ := s.chains.have(live.chain)
	if known == 0 {
		b = append(b, live.chain.Value()...)
		known = s.chains.give(live.chain, struct{}{})
	}
	b = packed.AppendNumber(b, foundChainHandle, uint64(known))
	if len(r.Tree.Source()) <= keepBytes {
		b = packed.AppendNumber(b, foundHandle, uint64(s.services.give(r.serial, live.chain)))
	}
	s.found = b
}

func appendSelected(b []byte, q *question, r *record) []byte {
	for _, selector := range q.selected {
		var values []byte
		for _, v := range selector.ValuesIn(r.Tree) {
			values = protowire.AppendString(protowire.AppendTag(values, valuesValue, protowire.BytesType), v)
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, foundValues, protowire.BytesType), values)
	}
	return b
}

// handles numbers what the client keeps, from 1 to most; then it begins to replace the oldest.
type handles[K comparable, V any] struct {
	most int
	next int
	keys []K
	by   map[K]held[V]
}

type held[V any] struct {
	handle uint32
	with   V
}

// have is the handle of what the client keeps, 0 when it does not.
func (h *handles[K, V]) have(k K) (handle uint32, with V) {
	x := h.by[k]
	return x.handle, x.with
}

// give makes a handle, 0 when nothing is kept. A thing that has one gets it anew.
func (h *handles[K, V]) give(k K, with V) uint32 {
	if h.most == 0 {
		return 0
	}
	if h.by == nil {
		h.by = make(map[K]held[V])
	}
	if x, ok := h.by[k]; ok {
		h.by[k] = held[V]{x.handle, with}
		return x.handle
	}
	if len(h.keys) < h.most {
		h.keys = append(h.keys, k)
	} else {
		delete(h.by, h.keys[h.next])
		h.keys[h.next] = k
	}
	h.next++
	handle := uint32(h.next)
	h.next %= h.most
	h.by[k] = held[V]{handle, with}
	return handle
}
