package udp

import (
	"time"

	"ninja/connectors"
)

// Bounds of what the receiving end holds. No credit is given while it holds almost so much, so that only a sender that
// takes no notice of credit meets them.
const (
	span         = 512  // ADUs
	maxHeld      = 2048 // fragments
	maxMarks     = 64
	window       = 64 // datagrams that a sender may be ahead
	stopADUs     = span - window
	stopHeld     = maxHeld - maxFragments - window
	maxMarkAhead = 1 << 20
)

// partial is an ADU of which at least one fragment has come.
type partial struct {
	fragment          // of the first that came; its payload is the ADU where there is no other
	parts    [][]byte // of an ADU of several; nil until it comes
	have     int      // 0 is an empty slot
	size     int
	// begun and arrived are when the first and the latest fragment came.
	begun, arrived time.Time
}

// buffer puts fragments together and ADUs in order. It is pure: the time is handed in. An ADU is delivered as soon as it
// is whole and its turn; what is missing is waited for as long as reorder says after something later has come.
type buffer struct {
	reorder time.Duration

	slots [span]partial
	next  uint64 // number to deliver next
	known uint64 // one past the highest number of which something has come
	held  int    // fragments
	// ended says that end is final; endAt is when that was learnt.
	ended bool
	end   uint64
	endAt time.Time
	// marks are those said on the session for ADUs not delivered yet; marked is one past the last number delivered with
	// its mark; owed is the mark of an ADU that was lost.
	marks  map[uint64]said
	marked uint64
	owed   connectors.Mark
	// flushing drops until flushed tells flushedTo, the number that counts again.
	flushing  bool
	flushedTo uint64

	lastSeq  uint64
	lastTime time.Duration
	// listening is when the reader began to wait: before it, what is missing may have stood in the socket.
	listening time.Time

	lost, late uint64
}

// put takes a fragment, whose payload the buffer keeps, and reports whether it belongs to the ADU as known so far.
func (b *buffer) put(f fragment, now time.Time) bool {
	// Only a sender that ignores credit comes to this: the oldest give way.
	if f.number >= b.next+span {
		b.giveUp(f.number - span + 1)
	}
	for b.held >= maxHeld && b.next <= f.number {
		b.giveUp(b.next + 1)
	}
	if f.number < b.next {
		if f.index == 0 && f.number >= b.flushedTo {
			b.late++
		}
		return true
	}
	p := &b.slots[f.number%span]
	if p.have == 0 {
		*p = partial{fragment: f, begun: now}
		if f.fragments > 1 {
			p.parts = make([][]byte, f.fragments)
		}
	}
	if p.seq != f.seq || p.fragments != f.fragments || p.mark != f.mark || p.time != f.time {
		return false
	}
	if p.parts == nil {
		if p.have > 0 {
			return true
		}
	} else {
		if p.parts[f.index] != nil {
			return true
		}
		p.parts[f.index] = f.payload
	}
	p.have++
	p.size += len(f.payload)
	p.arrived = now
	b.held++
	b.known = max(b.known, f.number+1)
	return true
}

// pass returns the ADU of a fragment that is whole and next, where nothing else is to be decided: most are, and need not be
// held.
func (b *buffer) pass(f fragment) (connectors.ADU, bool) {
	if f.fragments != 1 || f.number != b.next || b.slots[f.number%span].have > 0 || b.owed != 0 || b.ended || b.flushing || len(b.marks) > 0 {
		return connectors.ADU{}, false
	}
	b.next++
	b.known = max(b.known, b.next)
	b.lastSeq, b.lastTime = f.seq, f.time
	if f.mark != 0 {
		b.marked = b.next
	}
	return connectors.ADU{Payload: f.payload, MediaTime: f.time, Seq: f.seq, Mark: f.mark, Stamp: f.stamp}, true
}

// said is a mark that was said on the session, and when: all of its ADU had been sent by then.
type said struct {
	mark connectors.Mark
	at   time.Time
}

// mark takes a mark said on the session.
func (b *buffer) mark(m connectors.Mark, number uint64, now time.Time) {
	switch {
	case number < b.marked: // delivered
	case number < b.next:
		b.owed |= m
	case len(b.marks) < maxMarks && number-b.next < maxMarkAhead:
		if b.marks == nil {
			b.marks = make(map[uint64]said)
		}
		b.marks[number] = said{m, now}
	}
}

// finish takes the end of the stream.
func (b *buffer) finish(number uint64, now time.Time) { b.ended, b.end, b.endAt = true, number, now }

// flush drops what is held, and what still comes until flushed says from which number on it counts again.
func (b *buffer) flush() {
	b.flushing = true
	b.skipTo(b.known)
	b.owed = 0
}

func (b *buffer) flushed(number uint64) {
	b.skipTo(number)
	b.owed, b.flushing = 0, false
	b.flushedTo = max(b.flushedTo, number)
	b.known = max(b.known, b.next)
}

// giveUp gives up the numbers before the given one as lost.
func (b *buffer) giveUp(number uint64) {
	if number > b.next {
		b.lost += number - b.next
		b.skipTo(number)
	}
}

// skipTo goes on to the number; the marks of what it passes are owed.
func (b *buffer) skipTo(number uint64) {
	if number > b.next+span { // nothing is held that far
		clear(b.slots[:])
		b.held, b.next = 0, number-span
	}
	for b.next < number {
		b.owed |= b.step()
	}
	for at, m := range b.marks {
		if at < b.next {
			b.owed |= m.mark
			delete(b.marks, at)
		}
	}
}

// step goes on by one ADU and returns its mark, as far as it is known.
func (b *buffer) step() connectors.Mark {
	m := b.marks[b.next].mark
	delete(b.marks, b.next)
	if p := &b.slots[b.next%span]; p.have > 0 {
		m |= p.mark
		b.held -= p.have
		*p = partial{}
	}
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

// take returns the next ADU.
func (b *buffer) take(now time.Time) (connectors.ADU, verdict, time.Time) {
	for !b.flushing {
		if b.owed != 0 {
			a := connectors.ADU{Seq: b.lastSeq + 1, MediaTime: b.lastTime, Mark: b.owed}
			b.owed, b.marked = 0, b.next
			return a, deliver, time.Time{}
		}
		if b.ended && b.next >= b.end {
			return connectors.ADU{}, eof, time.Time{}
		}
		if p := &b.slots[b.next%span]; p.have > 0 && p.have == p.fragments {
			return b.deliver(p), deliver, time.Time{}
		}
		until, missing := b.missing()
		if least := b.listening.Add(drain); missing && least.After(until) {
			until = least
		}
		if !missing || until.After(now) {
			return connectors.ADU{}, wait, until
		}
		b.giveUp(b.behind())
	}
	if b.ended { // the sender has left without taking the flush: all of it is dropped
		return connectors.ADU{}, eof, time.Time{}
	}
	return connectors.ADU{}, wait, time.Time{}
}

// drain is the least time to empty the socket before what is missing is given up.
const drain = 2 * time.Millisecond

// deliver joins the parts. One part is not copied.
func (b *buffer) deliver(p *partial) connectors.ADU {
	payload := p.payload
	if p.fragments > 1 {
		payload = make([]byte, 0, p.size)
		for _, part := range p.parts {
			payload = append(payload, part...)
		}
	}
	a := connectors.ADU{Payload: payload, MediaTime: p.time, Seq: p.seq, Stamp: p.stamp}
	a.Mark = b.step()
	b.lastSeq, b.lastTime = a.Seq, a.MediaTime
	if a.Mark != 0 {
		b.marked = b.next
	}
	return a
}

// missing reports whether the next ADU is known to have been sent, and from when on it is lost.
func (b *buffer) missing() (until time.Time, missing bool) {
	sent := func(at time.Time) {
		if !missing || at.Before(until) {
			until, missing = at, true
		}
	}
	for at := b.next + 1; at < b.known; at++ {
		if p := &b.slots[at%span]; p.have > 0 {
			sent(p.begun)
			break
		}
	}
	for number, m := range b.marks {
		if number >= b.next {
			sent(m.at)
		}
	}
	if b.ended {
		sent(b.endAt)
	}
	if !missing {
		return time.Time{}, false
	}
	// A fragment of the ADU itself that has come since shows that the others may be under way still.
	if own := &b.slots[b.next%span]; own.have > 0 && own.arrived.After(until) {
		until = own.arrived
	}
	return until.Add(b.reorder), true
}

// behind is one past the run of numbers that are lost together when the next is. It is found without a loop over
// numbers, because a peer may claim an end that is far away.
func (b *buffer) behind() uint64 {
	number := uint64(1) << 63
	if b.ended {
		number = b.end
	}
	for at := range b.marks {
		number = min(number, at+1)
	}
	for at := b.next + 1; at < b.known; at++ {
		if b.slots[at%span].have > 0 {
			number = min(number, at)
			break
		}
	}
	return number
}

// room reports whether the sender may be given credit.
func (b *buffer) room() bool { return b.known-b.next < stopADUs && b.held < stopHeld }
