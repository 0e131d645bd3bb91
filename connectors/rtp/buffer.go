package rtp

import (
	"time"

	"ninja/connectors"
)

// Bounds of what the receiving end holds.
const (
	span     = 512 // packets
	maxMarks = 64
)

// slot is a packet that waits for its turn.
type slot struct {
	packet
	present bool
	arrived time.Time
}

// buffer puts packets in order and decides when each is delivered. It is pure: the time is handed in.
//
// Without playout delay a packet is delivered as soon as it is its turn, and one that is missing is waited for as long
// as reorder says after a later one has come. With it every packet is held until its media time, counted from the first
// packet's arrival, plus the delay.
type buffer struct {
	format   format
	textType uint8 // payload type of the text inside its redundancy
	reorder  time.Duration
	playout  playout
	// conceal, where it is not nil, fills the place of lost packets.
	conceal func(last []byte, n, run int) []byte

	slots [span]slot
	next  uint64 // position to deliver next
	known uint64 // one past the highest position that is known to exist
	// ended says that end is final; endAt is when that was learnt.
	ended bool
	end   uint64
	endAt time.Time
	// marks are those said on the session for positions not delivered yet; marked is one past the last position
	// delivered with its mark, owed a mark whose packet was lost.
	marks    map[uint64]said
	marked   uint64
	owed     connectors.Mark
	flushing bool

	mediaAt int64  // sample after the last one delivered
	last    []byte // a copy of the last payload delivered, for concealing
	run     int    // packets lost since
	dropped int64  // samples in a row that came too late to be played
	rests   bool   // the last delivered ended something: what follows may take its time

	// listening is when the reader began to wait: before it, what is missing may have stood in the socket.
	listening time.Time

	lost, late uint64
}

// put takes a packet, whose payload the buffer keeps.
func (b *buffer) put(p packet, now time.Time) {
	if b.playout.on() {
		length := b.format.span(b.format.length(p.payload))
		b.playout.arrived(now, b.format.span(p.time), length, p.talkspurt, p.position < b.next)
	}
	if p.position < b.next {
		b.late++
		return
	}
	if p.position >= b.next+span { // the reader is too slow: the oldest give way
		b.lost += p.position - span + 1 - b.next
		b.skipTo(p.position - span + 1)
	}
	s := &b.slots[p.position%span]
	if s.present {
		return
	}
	*s = slot{packet: p, present: true, arrived: now}
	b.known = max(b.known, p.position+1)
}

// putText takes a packet of text and, from what it repeats, those that it stands in for. It reports whether it could be
// read.
func (b *buffer) putText(p packet, now time.Time) bool {
	blocks, err := unpack(p.payload, b.textType)
	if err != nil {
		return false
	}
	for i, old := range blocks[:len(blocks)-1] {
		behind := uint64(len(blocks) - 1 - i)
		if behind > p.position || p.position-behind < b.next || b.slots[(p.position-behind)%span].present {
			continue
		}
		b.put(packet{position: p.position - behind, time: p.time + old.time, payload: old.text}, now)
	}
	p.payload = blocks[len(blocks)-1].text
	b.put(p, now)
	return true
}

// pass delivers a packet that is next, where nothing else is to be decided: most are, and need not be held.
func (b *buffer) pass(p packet) (connectors.ADU, bool) {
	if p.position != b.next || b.slots[p.position%span].present || b.owed != 0 || b.ended || b.flushing || len(b.marks) > 0 ||
		b.playout.on() || b.format.text {
		return connectors.ADU{}, false
	}
	b.next++
	b.known = max(b.known, b.next)
	return b.delivered(p, p.mark), true
}

// said is a mark that was said on the session, and when.
type said struct {
	mark connectors.Mark
	at   time.Time
}

// mark takes a mark said on the session.
func (b *buffer) mark(m connectors.Mark, position uint64, now time.Time) {
	switch {
	case position < b.marked: // delivered, or so old that it does not matter any more
	case position < b.next:
		b.owed |= m
	case len(b.marks) < maxMarks && position < b.next+1<<20:
		if b.marks == nil {
			b.marks = make(map[uint64]said)
		}
		b.marks[position] = said{m, now}
	}
}

// finish takes the end of the stream.
func (b *buffer) finish(position uint64, now time.Time) {
	b.ended, b.end, b.endAt = true, position, now
}

// flush drops what is held, and what still comes until flushed says from where on it counts again.
func (b *buffer) flush() {
	b.flushing = true
	b.skipTo(b.known)
}

func (b *buffer) flushed(position uint64) {
	b.skipTo(position)
	b.flushing = false
	b.owed = 0
	b.playout.reset()
	b.last = b.last[:0]
}

// skipTo gives up the positions before the given one; their marks are owed, unless a flush drops them.
func (b *buffer) skipTo(position uint64) {
	if position > b.next+span { // nothing is held that far
		clear(b.slots[:])
		b.next = position - span
	}
	for b.next < position {
		b.owed |= b.step()
	}
	for at, m := range b.marks {
		if at < b.next {
			b.owed |= m.mark
			delete(b.marks, at)
		}
	}
	if b.flushing {
		b.owed = 0
	}
}

// step goes on by one position and returns its mark.
func (b *buffer) step() connectors.Mark {
	s := &b.slots[b.next%span]
	m := s.mark
	if said, ok := b.marks[b.next]; ok {
		m |= said.mark
		delete(b.marks, b.next)
	}
	*s = slot{}
	b.next++
	return m
}

// verdict is what take decided.
type verdict int

const (
	wait    verdict = iota // until the time given, or for more to come when that is zero
	deliver                // the ADU
	eof
)

// take returns the next ADU when it is due.
func (b *buffer) take(now time.Time) (connectors.ADU, verdict, time.Time) {
	for !b.flushing {
		if b.owed != 0 {
			a := connectors.ADU{Seq: b.next, MediaTime: b.format.span(b.mediaAt), Mark: b.owed}
			b.owed = 0
			return a, deliver, time.Time{}
		}
		if b.ended && b.next >= b.end {
			return connectors.ADU{}, eof, time.Time{}
		}
		s := &b.slots[b.next%span]
		if s.present {
			if b.overdue(s, now) {
				b.drop()
				continue
			}
			if due := b.due(s); due.After(now) {
				return connectors.ADU{}, wait, due
			}
			if a := b.deliver(); len(a.Payload) > 0 || a.Mark != 0 || !b.format.text {
				return a, deliver, time.Time{}
			}
			continue // a packet that only repeated
		}
		until, missing := b.gap()
		if !missing {
			a, at, ok := b.fill(now)
			if ok {
				return a, deliver, time.Time{}
			}
			until = at
		}
		if !missing || until.After(now) {
			return connectors.ADU{}, wait, until
		}
		if b.known <= b.next && len(b.marks) == 0 && b.end-b.next > span { // no loop over an end that a peer claims far away
			b.lost += b.end - b.next
			b.skipTo(b.end)
			continue
		}
		b.lost++
		if a, ok := b.concealed(); ok {
			return a, deliver, time.Time{}
		}
		b.owed |= b.step()
	}
	if b.ended { // the sender has left without taking the flush: all of it is dropped
		return connectors.ADU{}, eof, time.Time{}
	}
	return connectors.ADU{}, wait, time.Time{}
}

func (b *buffer) deliver() connectors.ADU {
	p := b.slots[b.next%span].packet
	return b.delivered(p, b.step())
}

// delivered makes the ADU of a packet that has been gone on from.
func (b *buffer) delivered(p packet, m connectors.Mark) connectors.ADU {
	a := connectors.ADU{Payload: p.payload, MediaTime: b.format.span(p.time), Seq: p.position + 1, Mark: m, Stamp: p.stamp}
	b.mediaAt = p.time + b.format.length(p.payload)
	if b.conceal != nil {
		b.last, b.run, b.rests = append(b.last[:0], p.payload...), 0, a.Mark != 0
	}
	b.dropped = 0
	if a.Mark != 0 {
		b.marked = b.next
	}
	return a
}

func (b *buffer) due(s *slot) time.Time {
	if !b.playout.on() {
		return s.arrived
	}
	return b.playout.due(b.format.span(s.time))
}

// concealed makes an ADU for the next position, which is lost, if what came before says how. It is no longer than the
// hole in the media time, as far as that is known.
func (b *buffer) concealed() (connectors.ADU, bool) {
	if b.format.text {
		return connectors.ADU{Payload: []byte(missingText), MediaTime: b.format.span(b.mediaAt), Seq: b.next + 1, Mark: b.step()}, true
	}
	n := int64(len(b.last) / b.format.sample)
	if b.conceal == nil || n == 0 || b.format.opus {
		return connectors.ADU{}, false
	}
	for at := b.next + 1; at < b.known; at++ {
		if s := &b.slots[at%span]; s.present {
			n = min(n, s.time-b.mediaAt)
			break
		}
	}
	if n <= 0 {
		return connectors.ADU{}, false
	}
	b.run++
	payload := b.conceal(b.last, int(n)*b.format.sample, b.run)
	if payload == nil {
		return connectors.ADU{}, false
	}
	a := connectors.ADU{Payload: payload, MediaTime: b.format.span(b.mediaAt), Seq: b.next + 1, Mark: b.step()}
	b.mediaAt += n
	if a.Mark != 0 {
		b.marked = b.next
	}
	return a, true
}

// drain is the least time to empty the socket before what is missing is given up.
const drain = 2 * time.Millisecond

// gap reports whether the next position is known to be missing, and until when to wait for it.
func (b *buffer) gap() (until time.Time, missing bool) {
	until, missing = b.missing()
	if least := b.listening.Add(drain); missing && least.After(until) {
		until = least
	}
	return until, missing
}

func (b *buffer) missing() (until time.Time, missing bool) {
	for at := b.next + 1; at < b.known; at++ {
		if s := &b.slots[at%span]; s.present {
			if b.playout.on() { // when it would have been due itself, were it as long as this one
				before := b.format.span(b.format.length(s.payload)) * time.Duration(at-b.next)
				until = b.due(s).Add(-before)
				if exact := b.playout.due(b.format.span(b.mediaAt)); b.mediaAt > 0 && exact.After(until) {
					until = exact
				}
				return until, true
			}
			return s.arrived.Add(b.reorder), true
		}
	}
	// What was said of a position tells that its packet had been sent, though nothing came after it.
	for at, m := range b.marks {
		if sent := m.at.Add(b.reorder); at >= b.next && (!missing || sent.Before(until)) {
			until, missing = sent, true
		}
	}
	if sent := b.endAt.Add(b.reorder); b.ended && b.next < b.end && (!missing || sent.Before(until)) {
		until, missing = sent, true
	}
	return until, missing
}
