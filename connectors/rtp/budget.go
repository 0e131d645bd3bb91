package rtp

import (
	"time"

	"ninja/connectors"
)

// This file holds a playout to what is left of its path's latency budget (playout.bound). A buffer without one plays what
// comes late as soon as it comes, and grows.

// overdue reports whether the turn of the packet is over: its place was filled, or all of it is beyond the budget. When
// that has gone on for as much as giveUp the line is another one, which no packet comes by in time: the playout begins anew,
// because late is better than never again.
func (b *buffer) overdue(s *slot, now time.Time) bool {
	length := b.format.length(s.payload)
	last, bound := b.playout.last(b.format.span(s.time + length))
	if !bound || length == 0 || s.time+length > b.mediaAt && !last.Before(now) {
		return false
	}
	if b.dropped += length; b.format.span(b.dropped) <= giveUp {
		return true
	}
	b.playout.reset()
	b.playout.arrived(s.arrived, b.format.span(s.time), b.format.span(length), true, false)
	return false
}

// giveUp is how much in a row may be dropped for being late.
const giveUp = time.Second

// fill makes an ADU for what should be played by now, though nothing says that it was sent: the line may deliver all
// late and in order. Its packet keeps its position, because there may be none: it may be a pause. Else it says when to
// ask again.
func (b *buffer) fill(now time.Time) (connectors.ADU, time.Time, bool) {
	last, bound := b.playout.last(b.format.span(b.mediaAt))
	if !bound || b.conceal == nil || b.format.opus || b.ended || b.rests || len(b.last) == 0 || b.run == maxRun {
		return connectors.ADU{}, time.Time{}, false
	}
	if last.After(now) {
		return connectors.ADU{}, last, false
	}
	b.run++
	payload := b.conceal(b.last, len(b.last), b.run)
	if payload == nil {
		b.rests = true
		return connectors.ADU{}, time.Time{}, false
	}
	a := connectors.ADU{Payload: payload, MediaTime: b.format.span(b.mediaAt), Seq: b.next + 1}
	b.mediaAt += int64(len(payload) / b.format.sample)
	return a, time.Time{}, true
}

// drop drops the next packet as one that came when it had been given up. Its mark is not lost.
func (b *buffer) drop() {
	b.lost++
	b.late++
	if m := b.step(); m != 0 {
		b.owed |= m
		b.marked = b.next
	}
}
