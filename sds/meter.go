package sds

import (
	"context"
	"sync"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// meter keeps one principal's questions from slowing everybody else's: what searches of one principal look at is paid
// from an allowance that fills again with time, whatever the number of its sessions and watches. Who is in debt waits.
type meter struct {
	rate, most int // fuel a second, and what can be saved up

	mu sync.Mutex
	by map[ca.ID]*allowance
}

// allowance is one principal's.
type allowance struct {
	fuel  int
	at    time.Time     // when fuel was last made good
	slots chan struct{} // searches at a time
	users int           // goroutines that hold the allowance
}

// Bounds of what one principal uses.
const (
	searchesMost   = 16 // at a time, so that debts are bounded
	allowancesMost = 4096
)

func newMeter(rate int) *meter {
	return &meter{rate: rate, most: 2 * rate, by: make(map[ca.ID]*allowance)}
}

// pay runs a search that uses fuel and returns how much, when its principal may: at once, unless others of its searches
// run or have been expensive.
func (m *meter) pay(ctx context.Context, who ca.ID, search func() (used int)) error {
	a := m.hold(who)
	defer m.release(a)
	select {
	case a.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.slots }()
	for {
		debt := m.charge(a, 0)
		if debt <= 0 {
			break
		}
		if err := world.Sleep(ctx, time.Duration(debt)*time.Second/time.Duration(m.rate)+time.Millisecond); err != nil {
			return err
		}
	}
	m.charge(a, search())
	return nil
}

func (m *meter) hold(who ca.ID) *allowance {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.by[who]
	if a == nil {
		if len(m.by) >= allowancesMost {
			m.forget()
		}
		a = &allowance{fuel: m.most, at: time.Now(), slots: make(chan struct{}, searchesMost)}
		m.by[who] = a
	}
	a.users++
	return a
}

func (m *meter) release(a *allowance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.users--
}

// charge takes fuel and returns the debt, negative when there is none.
func (m *meter) charge(a *allowance, fuel int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fill(a, time.Now())
	a.fuel -= fuel
	return -a.fuel
}

func (m *meter) fill(a *allowance, now time.Time) {
	if earned := int(min(now.Sub(a.at), time.Minute).Seconds() * float64(m.rate)); earned > 0 {
		a.fuel, a.at = min(m.most, a.fuel+earned), now
	}
}

// forget lets go of those whose allowance is full again, which is what a new one has.
func (m *meter) forget() {
	now := time.Now()
	for who, a := range m.by {
		if m.fill(a, now); a.users == 0 && a.fuel >= m.most {
			delete(m.by, who)
		}
	}
}
