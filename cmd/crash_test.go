package cmd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ninja/capability"
	"ninja/cmd/home"
	"ninja/internal/world"
	"ninja/sds"
)

// acknowledged is what one writer of ACLs has been told, and what it does not know.
type acknowledged struct {
	mu      sync.Mutex
	acls    map[string]capability.Operations // by service: what everyone may, as the manager said last
	unknown map[string]capability.Operations // asked for, and no answer came
	changes int
}

// change grants and revokes until ctx ends or the manager is gone.
func (a *acknowledged) change(ctx context.Context, rights *capability.Client, services []string, r *rand.Rand) {
	for ctx.Err() == nil {
		service := services[r.IntN(len(services))]
		want := capability.Find
		if r.IntN(2) == 0 {
			want = capability.Find | capability.Use
		}
		a.mu.Lock()
		a.unknown[service] = want
		a.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, time.Second)
		acl, err := rights.SetACL(limited, service, []capability.Entry{{Who: capability.Everyone, Ops: want}})
		cancel()
		if err != nil {
			return
		}
		a.mu.Lock()
		a.acls[service] = acl.Entries[0].Ops
		a.changes++
		delete(a.unknown, service)
		a.mu.Unlock()
	}
}

// lost are services whose ACL is neither what was acknowledged nor what was being asked for.
func (a *acknowledged) lost(t *testing.T, rights *capability.Client) (lost []string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for service, want := range a.acls {
		acl, err := rights.GetACL(t.Context(), service)
		for end := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(end); { // the connection comes back by and by
			_ = world.Sleep(t.Context(), 100*time.Millisecond)
			acl, err = rights.GetACL(t.Context(), service)
		}
		if err != nil {
			t.Fatal(err)
		}
		var have capability.Operations
		if len(acl.Entries) == 1 {
			have = acl.Entries[0].Ops
		}
		if asked, unsure := a.unknown[service]; have != want && !(unsure && have == asked) {
			lost = append(lost, fmt.Sprintf("%s: %v, want %v", service, have, want))
		}
		a.acls[service] = have
	}
	clear(a.unknown)
	return lost
}

// "Crash and restart loops: refill in three periods, no ACL lost on kill -9." The server with all its roles is killed again
// and again while an owner changes ACLs.
func TestCrashLoops(t *testing.T) {
	const period = 1024 * time.Millisecond
	const owners, each = 5, 10
	loops := times(1, 20)
	s := newSystem(t)
	config := fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: %v}\nlog: {level: error}\n", s.group, s.port+1, period)
	s.run("server", config)
	s.lamps(owners, each)
	h, err := home.Open(t.Context(), filepath.Join(s.dir, "owner0"))
	if err != nil {
		t.Fatal(err)
	}
	rights, err := h.Rights(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := h.SDS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	count := func() int {
		limited, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n, err := client.Count(limited, sds.Query{XPath: "/*[@kind='lamp']"})
		if err != nil {
			return -1
		}
		return n
	}
	s.eventually("all lamps are found", func() bool { return count() == owners*each })
	var services []string
	for i := range 50 {
		services = append(services, capability.ServiceID(h.Identity.ID(), fmt.Sprint("thing", i)))
	}
	told := &acknowledged{acls: map[string]capability.Operations{}, unknown: map[string]capability.Operations{}}
	source := rand.New(rand.NewPCG(7, uint64(loops)))
	var refills []time.Duration
	for range loops {
		ctx, cancel := context.WithCancel(t.Context())
		var writer sync.WaitGroup
		own := rand.New(rand.NewPCG(source.Uint64(), 1))
		writer.Go(func() { told.change(ctx, rights, services, own) })
		s.wait(300*time.Millisecond + time.Duration(source.IntN(700))*time.Millisecond)
		s.kill("server")
		writer.Wait()
		cancel()
		s.run("server", config)
		up := time.Now()
		s.eventually("all lamps are back", func() bool { return count() == owners*each })
		refills = append(refills, time.Since(up))
		if lost := told.lost(t, rights); len(lost) > 0 {
			t.Fatalf("lost: %v", lost)
		}
	}
	slices.Sort(refills)
	worst := refills[len(refills)-1]
	t.Logf("PROVE %d crashes (kill -9): %d ACL changes were acknowledged, 0 lost; %d services of %d owners were back %v (median) and %v (worst) after the server was up, %.1f periods",
		loops, told.changes, owners*each, owners, refills[len(refills)/2].Round(time.Millisecond), worst.Round(time.Millisecond), float64(worst)/float64(period))
	if proving() && worst > 3*period {
		t.Errorf("refilled after %v, more than three periods of %v", worst, period)
	}
}
