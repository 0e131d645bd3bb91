package sds

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/announce"
)

// TestCrashUnderLoad: servers die in the middle of gathered questions and answers, one after the other, and what they
// knew, and had agreed with their clients, dies with them. No caller gets an error or another's answer, and each finds its
// service again as soon as it is announced to the next server.
func TestCrashUnderLoad(t *testing.T) {
	w := newTown(t)
	owner, user := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u")
	const callers = 32
	bodies := make([]announce.Body, callers)
	for i := range bodies {
		name := fmt.Sprint("p", i)
		w.acls.set(string(owner.ID())+"#"+name, capability.Everyone)
		bodies[i] = announce.Sign(owner, name, 1, fmt.Appendf(nil, printer, name, i, 1))
	}
	address, stop := w.crashing(t, "127.0.0.1:0", bodies)
	w.address = address
	c := w.client(user)
	ctx, end := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var answered, empty atomic.Int64
	progress := make(chan struct{})
	for i := range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				asking, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				found, err := c.Query(asking, Query{Template: fmt.Appendf(nil, `<service name="p%d"><floor>%d</floor></service>`, i, i)})
				cancel()
				switch {
				case err != nil:
					t.Errorf("caller %d: %v", i, err)
					return
				case len(found) == 0: // not announced to the new server yet
					empty.Add(1)
				case len(found) > 1 || found[0].Name != fmt.Sprint("p", i) || string(found[0].Description) != string(bodies[i].Description):
					t.Errorf("caller %d found %+v", i, found)
					return
				}
				answered.Add(1)
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	crashes := 3 * proveScale(t)
	for range crashes {
		for range callers {
			select {
			case <-progress:
			case <-time.After(20 * time.Second):
				t.Fatal("nobody is answered")
			}
		}
		stop()
		_, stop = w.crashing(t, address, bodies)
	}
	for i := range bodies { // everything is found in the end
		for found := 0; found == 0 && !t.Failed(); {
			page, err := c.Query(t.Context(), Query{XPath: fmt.Sprintf("/service[@name='p%d']", i)})
			if err != nil {
				t.Error(err)
			}
			found = len(page)
		}
	}
	end()
	all.Wait()
	stop()
	t.Logf("PROVE %d crashes under load of %d callers: %d answers, %d of them before the service was announced again, 0 errors", crashes, callers, answered.Load(), empty.Load())
}

// crashing serves at an address until it is stopped in the middle of whatever it does. Its services are announced to it
// while it is asked.
func (w *town) crashing(t *testing.T, at string, bodies []announce.Body) (address string, stop func()) {
	t.Helper()
	s, err := NewServer(w.server.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = s.Run(ctx) })
	address, stopServing := serve(t, w.server.cfg.Identity, at, s)
	all.Go(func() {
		for _, b := range bodies {
			if err := s.Put(b); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	return address, func() { stopServing(); cancel(); all.Wait() }
}
