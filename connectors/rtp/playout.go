package rtp

import (
	"slices"
	"time"
)

// Sizes of the adaptive playout.
const (
	// history is how many packets its size is measured over: 5 s of 20 ms.
	history = 256
	// remeasure is after how many packets.
	remeasure = 16
	// margin is added to what was measured, for the scheduler of the listener's machine.
	margin = 5 * time.Millisecond
	// covered is the share of packets, in percent, that must come in time.
	covered = 98
	// shrinkBy is the part of its length by which a packet inside a talkspurt comes earlier than its distance to the one
	// before, while the playout shrinks: nobody hears it.
	shrinkBy = 200
)

// playout decides when a packet of a media time is delivered. It is pure: the time is handed in. A fixed one holds each
// packet for the initial delay after the first; one with a greatest delay measures how unevenly packets come and holds
// them for as long as covers it. It grows at once, because late packets are lost ones, and shrinks where that is not
// heard: at the start of a talkspurt, else slowly. Only when it turns out to be over the greatest it shrinks at once.
type playout struct {
	initial, most time.Duration
	// bound says that the greatest delay is what is left of the path's budget: what comes after it is not waited for,
	// even when nothing says that more will come, and is not played.
	bound bool

	begun bool
	zero  time.Time // when media time zero is delivered

	// transits are arrivals less media times, from origin.
	origin   time.Time
	transits [history]time.Duration
	n        int
	least    time.Duration // of transits
	wanted   time.Duration // the latest transit to cover, margin included
}

// on reports whether packets are held at all.
func (p *playout) on() bool { return p.initial > 0 || p.most > 0 }

// due is when the media time is delivered.
func (p *playout) due(media time.Duration) time.Time { return p.zero.Add(media) }

// arrived takes the arrival of a packet of the media time and length; late says that its turn is over.
func (p *playout) arrived(now time.Time, media, length time.Duration, talkspurt, late bool) {
	start := now.Add(-media)
	if p.most == 0 {
		if !late && (!p.begun || start.After(p.zero)) {
			p.begun, p.zero = true, start.Add(p.initial)
		}
		return
	}
	if !p.begun {
		p.begun, p.origin, p.n = true, start, 0
		p.zero = start.Add(min(max(p.initial, margin), p.most))
		p.wanted = p.zero.Sub(start)
	}
	transit := start.Sub(p.origin)
	if p.n == 0 || transit < p.least {
		p.least = transit
	}
	p.transits[p.n%history] = transit
	p.n++
	if limit := start.Add(p.most); p.zero.After(limit) { // those before were slow ones: over the budget nothing is held
		p.zero, p.wanted = limit, min(p.wanted, limit.Sub(p.origin))
	}
	if start.After(p.zero) || p.n%remeasure == 0 {
		p.measure()
	}
	switch target := p.origin.Add(p.wanted); {
	case late && target.Before(p.zero): // it says nothing of the present
	case talkspurt || target.After(p.zero):
		p.zero = target
	default:
		p.zero = p.zero.Add(-min(p.zero.Sub(target), length/shrinkBy))
	}
}

// measure sizes the playout: the covered share of what came lately is in time, within the greatest delay.
func (p *playout) measure() {
	var sorted [history]time.Duration
	s := sorted[:copy(sorted[:], p.transits[:min(p.n, history)])]
	slices.Sort(s)
	p.least = s[0]
	p.wanted = min(s[(len(s)-1)*covered/100]+margin, p.least+p.most)
}

// last is when the media time must have been delivered; false where there is no such time.
func (p *playout) last(media time.Duration) (time.Time, bool) {
	return p.origin.Add(p.least + p.most + media), p.bound && p.begun && p.n > 0
}

// size is how long the packet that came fastest is held: what the playout adds to the delay.
func (p *playout) size() time.Duration {
	if p.most == 0 || !p.begun {
		return p.initial
	}
	return p.zero.Sub(p.origin) - slices.Min(p.transits[:min(p.n, history)])
}

// reset begins anew: the media time of what comes next has nothing to do with the clock so far.
func (p *playout) reset() { p.begun = false }
