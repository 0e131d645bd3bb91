package host

import (
	"time"

	"ninja/operators/host/hostpb"
)

// keep sends a report that must arrive, now and to whoever attaches later. There is at most one a stage
// and one a hop that broke, and the end.
func (p *path) keep(r *hostpb.Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = append(p.kept, r)
	if p.box != nil {
		p.box.put(reportEvent(r))
	}
}

// note passes on what an operator says, at a bounded rate. It is called by operators' goroutines.
func (p *path) note(stage, kind, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.box == nil || !p.notes.take(time.Now()) {
		return
	}
	p.box.note(reportEvent(&hostpb.Report{
		Kind: hostpb.Report_NOTE, Stage: stage, NoteKind: clip(kind, maxNoteKind), Text: clip(text, maxText),
	}))
}

// heartbeat measures and tells the creator.
func (p *path) heartbeat() {
	for _, s := range p.stages {
		if s.inst != nil {
			s.inst.meter.beat(time.Now())
		}
	}
	stats := statsToWire(p.stats())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.box != nil {
		p.box.heartbeat(reportEvent(&hostpb.Report{Kind: hostpb.Report_HEARTBEAT, Stages: stats}))
	}
}

// stats is what was measured so far. Any goroutine may ask.
func (p *path) stats() []StageStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]StageStats, 0, len(p.stages))
	for _, s := range p.stages {
		all = append(all, s.stats())
	}
	return all
}

func (p *path) info() PathInfo {
	stages := p.stats()
	p.mu.Lock()
	defer p.mu.Unlock()
	return PathInfo{
		Path: p.key.path, Epoch: p.assignment.Epoch, Creator: p.key.creator,
		Attached: p.box != nil, Lease: max(0, time.Until(p.expires)), Stages: stages,
	}
}

// bucket lets through noteBurst notes at once and noteRate a second after that.
type bucket struct {
	tokens float64
	last   time.Time
}

const (
	noteBurst = 20
	noteRate  = 10
)

func (b *bucket) take(now time.Time) bool {
	if b.last.IsZero() {
		b.tokens = noteBurst
	} else {
		b.tokens = min(noteBurst, b.tokens+noteRate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
