package tree

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/route"
)

// follower is what a watch holds at the moment.
type follower struct {
	mu     sync.Mutex
	now    map[string]uint64
	lost   map[string]bool
	gone   map[string]bool
	synced bool
}

func follow(t *testing.T, c *Client, q sds.Query) *follower {
	t.Helper()
	w := &follower{now: map[string]uint64{}, lost: map[string]bool{}, gone: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		_ = c.WatchAll(ctx, q, route.All, func(e WatchEvent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			switch {
			case e.Lost:
				w.lost[e.Server.Name()] = true
			case e.Kind == sds.Synced:
				w.synced = true
			case e.Kind == sds.Leave:
				delete(w.now, e.Found.Name)
				w.gone[e.Found.Name] = true
			default:
				w.now[e.Found.Name] = e.Found.Version
			}
		})
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	return w
}

func (w *follower) settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.synced
}

// left are the names that were told to have gone.
func (w *follower) left() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(w.gone)), " ")
}

func (w *follower) has() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w.now)) {
		out = append(out, fmt.Sprint(name, ".", w.now[name]))
	}
	return strings.Join(out, " ")
}

// TestAWatchStandsAcrossTheTree: it is placed only where something can match, anew when summaries change, and holds
// through the loss of a branch.
func TestAWatchStandsAcrossTheTree(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root := w.grow("root")
	mid := w.grow("mid", "h=root")
	leaf := w.grow("leaf", "h=mid")
	other := w.grow("other", "h=root")
	leaf.publish(owner, "one", 1, printer("printer", 1))
	other.publish(owner, "x", 1, printer("lamp", 1))
	root.knows("mid", 1)
	root.knows("other", 1)
	f := follow(t, root.client(w.identity(ca.KindUser, "ann")), kindIs("printer"))
	eventually(t, "what is there is told", func() bool { return f.settled() && f.has() == "one.1" })
	if n := other.server.Stats().Watches; n != 0 {
		t.Errorf("the watch stands at a server where nothing can match: %d watches", n)
	}
	other.publish(owner, "two", 1, printer("printer", 1))
	eventually(t, "the watch is placed where something has come", func() bool { return f.has() == "one.1 two.1" })
	leaf.publish(owner, "one", 2, printer("printer", 2))
	eventually(t, "a change is told", func() bool { return f.has() == "one.2 two.1" })
	other.server.Withdraw(owner.ID(), "two", 2)
	eventually(t, "what goes is told, and the watch is taken away", func() bool {
		return f.has() == "one.2" && other.server.Stats().Watches == 0
	})
	mid.stop()
	eventually(t, "the lost branch is told", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.lost["mid"] })
	if f.has() != "one.2" {
		t.Errorf("a lost branch takes with it %q", f.has())
	}
	mid.start(func(c *Config) { c.Parents = []Parent{{Hierarchy: "h", Addresses: []string{root.address}}} })
	t.Cleanup(func() { mid.stop() })
	leaf.publish(owner, "three", 1, printer("printer", 1))
	eventually(t, "the branch is back", func() bool { return f.has() == "one.2 three.1" })
}
