package rtp

import "time"

// ahead is how far a sender may be before the media's own time: what a listener's buffer is sure to hold.
const ahead = 60 * time.Millisecond

// idle is the pause after which a stream whose media time begins again is taken to have been silent.
const idle = 100 * time.Millisecond

// catchUp is the longest stall that a source makes up for by sending at once what is due. A second of audio fits any
// receiver's socket.
const catchUp = time.Second

// pacer decides where an ADU stands in the stream and when its packets may leave. It is pure: the time is handed in.
type pacer struct {
	format format
	// next is the sample after the last one placed; shift is added to media times, which may begin again.
	next, shift int64
	begun       bool
	// at and from say that sample from was due to leave at that time; running is false before the first packet and
	// after a flush.
	at      time.Time
	from    int64
	running bool
}

// place returns the position of an ADU's first sample in the stream, and whether a pause precedes it. Positions never go
// back: a media time that begins again (a new utterance), or none at all, continues the stream, after a pause by as much
// as the pause lasted.
func (p *pacer) place(now time.Time, mediaTime time.Duration) (position int64, pause bool) {
	want := p.format.samples(mediaTime) + p.shift
	switch slack := int64(p.format.rate / 1000); {
	case !p.begun:
		p.begun = true
		p.next = want
		return want, true
	case want >= p.next:
		pause = want > p.next+slack
		p.next = want
		return want, pause
	case want >= p.next-slack:
		return p.next, false // rounding
	}
	if p.running {
		if late := now.Sub(p.due(p.next)); late > idle {
			p.next += p.format.samples(late)
			pause = true
		}
	}
	p.shift += p.next - want
	return p.next, pause
}

// due is when the sample may leave, were nothing ahead.
func (p *pacer) due(position int64) time.Time {
	return p.at.Add(p.format.span(position - p.from))
}

// wait is how long the packet that begins at position must wait. A source that was held up a little catches up, or each
// stall would delay the rest of a live stream for good; after a longer one the stream's time begins anew, because it was
// idle and no listener wants a burst.
func (p *pacer) wait(now time.Time, position int64) time.Duration {
	if !p.running || now.Sub(p.due(position)) > catchUp {
		p.at, p.from, p.running = now, position, true
		return 0
	}
	return max(p.due(position).Sub(now)-ahead, 0)
}

// sent says that n samples from position are on their way.
func (p *pacer) sent(position, n int64) { p.next = position + n }

// flush forgets the pace: what comes next leaves at once.
func (p *pacer) flush() { p.running = false }
