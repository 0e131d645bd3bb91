package host

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ninja/connectors"
)

// meter measures one stage. It is shared by the wrappers of the stage's two ends, which operators may use from
// different goroutines.
type meter struct {
	start    time.Time
	lastRead atomic.Int64 // since start, 0 when a write came after it
	busy     atomic.Int64 // sum of all samples

	// stamp is that of the last stamped ADU read, until something is written; ages are what those read showed.
	stamp  atomic.Pointer[connectors.Stamp]
	source bool   // the stage has no hop in: it stamps
	made   uint64 // ADUs written by a source; the writing goroutine alone uses it

	mu      sync.Mutex
	samples [512]time.Duration
	taken   uint64
	ages    [64]time.Duration
	aged    uint64
	// what beat has seen last, and the share of the time between that was spent working
	beatAt   time.Time
	beatBusy int64
	share    float64
}

func newMeter() *meter { return &meter{start: time.Now()} }

// read notes that the stage has got an ADU to work on.
func (m *meter) read() { m.lastRead.Store(int64(time.Since(m.start)) + 1) }

// write notes that the stage has made something; only the first write after a read is a sample.
func (m *meter) write() {
	began := m.lastRead.Swap(0)
	if began == 0 {
		return
	}
	d := time.Since(m.start) + 1 - time.Duration(began)
	m.busy.Add(int64(d))
	m.mu.Lock()
	m.samples[m.taken%uint64(len(m.samples))] = d
	m.taken++
	m.mu.Unlock()
}

// stampEvery is how many ADUs of a source have one stamp.
const stampEvery = 50

// took notes the stamp of an ADU that the stage has read.
func (m *meter) took(s *connectors.Stamp) {
	if s == nil {
		return
	}
	age := s.Now(time.Now())
	m.stamp.Store(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ages[m.aged%uint64(len(m.ages))] = age
	m.aged++
}

// stampFor is the stamp of the ADU that the stage writes now: a source makes one now and then, everybody else hands on
// what was read, whatever became of it.
func (m *meter) stampFor() *connectors.Stamp {
	if m.source {
		m.made++
		if m.made%stampEvery != 1 {
			return nil
		}
		return &connectors.Stamp{Arrived: time.Now()}
	}
	if m.stamp.Load() == nil {
		return nil
	}
	return m.stamp.Swap(nil)
}

// age returns the median and the 99th percentile of how old what the stage reads is.
func (m *meter) age() (p50, p99 time.Duration) {
	m.mu.Lock()
	kept := slices.Clone(m.ages[:min(m.aged, uint64(len(m.ages)))])
	m.mu.Unlock()
	if len(kept) == 0 {
		return 0, 0
	}
	slices.Sort(kept)
	return kept[len(kept)/2], kept[len(kept)*99/100]
}

// process returns the median and the 99th percentile of the kept samples.
func (m *meter) process() (p50, p99 time.Duration) {
	m.mu.Lock()
	kept := slices.Clone(m.samples[:min(m.taken, uint64(len(m.samples)))])
	m.mu.Unlock()
	if len(kept) == 0 {
		return 0, 0
	}
	slices.Sort(kept)
	return kept[len(kept)/2], kept[len(kept)*99/100]
}

// beat takes the share of the time since the last beat that the stage was working, at most 1.
func (m *meter) beat(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	busy := m.busy.Load()
	if since := now.Sub(m.beatAt); !m.beatAt.IsZero() && since > 0 {
		m.share = min(1, float64(busy-m.beatBusy)/float64(since))
	}
	m.beatAt, m.beatBusy = now, busy
}

// working is the share taken by the last beat.
func (m *meter) working() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.share
}

// end is what the wrappers of both directions have in common.
type end struct {
	adus, bytes atomic.Uint64
	broke       atomic.Pointer[error]               // the first error of the hop itself
	measured    atomic.Pointer[connectors.Measured] // the hop, when it measures itself
}

// measures takes note of a hop that measures itself.
func (e *end) measures(hop any) {
	if m, ok := hop.(connectors.Measured); ok {
		e.measured.Store(&m)
	}
}

// passed counts an ADU.
func (e *end) passed(bytes int) {
	e.adus.Add(1)
	e.bytes.Add(uint64(bytes))
}

// failed remembers an error of the hop. The end of the stream and of the caller's context are none.
func (e *end) failed(ctx context.Context, err error) error {
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		e.broke.CompareAndSwap(nil, &err)
	}
	return err
}

// stats joins what was counted here with what the hop measures itself.
func (e *end) stats() connectors.Stats {
	var s connectors.Stats
	if m := e.measured.Load(); m != nil {
		s = (*m).Stats()
	}
	s.ADUs, s.Bytes = e.adus.Load(), e.bytes.Load()
	return s
}
