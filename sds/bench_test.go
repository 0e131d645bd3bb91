package sds

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/announce"
	"ninja/sds/check"
	"ninja/sds/index"
	"ninja/sds/sdspb"
)

// signedMost is how many services of a catalogue are really signed.
const signedMost = 20_000

// catalogue fills a town with n services of about 9 attributes and 300 bytes, all visible to group:staff.
func (w *town) catalogue(b *testing.B, n int) {
	b.Helper()
	owner := w.identity(ca.KindBase, "b")
	w.lists(owner, n)
	w.fill(b, owner, n)
}

// lists are the access lists of a catalogue.
func (w *town) lists(owner *ca.Identity, n int) {
	w.acls.mu.Lock()
	defer w.acls.mu.Unlock()
	for i := range n {
		id := fmt.Sprintf("%s#s%d", owner.ID(), i)
		acl := &capability.ACL{Service: id}
		for _, g := range w.visible(i) {
			acl.Entries = append(acl.Entries, capability.Entry{Who: g, Ops: capability.Find})
		}
		w.acls.lists[id] = acl
	}
}

// kindOf and floorOf are what service i of a catalogue is. Forty stand in one street, i/40, and ten of these are of one
// kind on one floor.
func kindOf(i int) int  { return i / 40 % 20 }
func floorOf(i int) int { return i%4 + i/40%12*4 }

// fill puts the services of a catalogue in.
func (w *town) fill(b *testing.B, owner *ca.Identity, n int) {
	b.Helper()
	body := announce.Sign(owner, "x", 1, nil)
	st := w.server.store
	if err := st.do(func() { st.cfg.MaxPerOwner = max(st.cfg.MaxPerOwner, n) }); err != nil { // all are one owner's
		b.Fatal(err)
	}
	var all sync.WaitGroup
	for part := range 64 { // together, so that they are batched
		all.Go(func() {
			for i := part; i < n; i += 64 {
				d := fmt.Appendf(nil, `<service xmlns="urn:ninja:service:1" kind="kind%d" name="s%d"><summary>Service number %d of the catalogue</summary><floor>%d</floor><building city="c%d" street="st%d"/><node control="10.0.%d.%d:7000" cores="%d" memory="%d"/></service>`,
					kindOf(i), i, i, floorOf(i), i%10, i/40, i>>8&255, i&255, i%16, i%7)
				tree, err := check.Parse(d)
				if err != nil {
					b.Error(err)
					return
				}
				next := body
				next.Name, next.Description, next.Signature, next.Lifetime = fmt.Sprint("s", i), d, bytes.Clone(body.Signature), time.Hour
				if i < signedMost { // only what is found has to carry its signature
					next = announce.Sign(owner, next.Name, 1, d)
					next.Lifetime = time.Hour
				}
				if err := w.server.store.put(next, index.Pack(tree)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	if all.Wait(); b.Failed() {
		b.FailNow()
	}
}

// BenchmarkServiceBytes is what a server keeps of a service beside the description's own bytes: tree, index, record and
// deadline, with its access list (which is the follower's) left out.
func BenchmarkServiceBytes(b *testing.B) {
	sizes := []int{10_000, 100_000}
	if proveScale(b) >= 100 {
		sizes = append(sizes, 1_000_000)
	}
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			heap := func() float64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.GC()
				runtime.ReadMemStats(&m)
				return float64(m.HeapAlloc)
			}
			w := newTown(b)
			owner := w.identity(ca.KindBase, "b")
			w.lists(owner, n)
			before := heap()
			w.fill(b, owner, n)
			taken, size := heap()-before, 0
			for _, e := range w.server.store.services {
				size += len(e.Tree.Source())
			}
			b.ReportMetric((taken-float64(size))/float64(n), "bytes/service")
			b.ReportMetric(float64(size)/float64(n), "description-bytes")
		})
	}
}

// visible is who may find service i.
func (w *town) visible(i int) []capability.Who {
	if w.groups != nil {
		return w.groups(i)
	}
	return []capability.Who{"group:staff"}
}

// BenchmarkManyClasses finds about ten of 20,000 services by three terms, of which the asker may see so many classes.
func BenchmarkManyClasses(b *testing.B) {
	for _, n := range []int{1, 10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newTown(b)
			grants := make([]capability.Who, 50) // groups, of which services name two: as many classes as are wanted
			for i := range grants {
				grants[i] = capability.Who(fmt.Sprint("group:", i))
			}
			w.groups = func(i int) []capability.Who {
				who := []capability.Who{grants[i%n%50], capability.Who(fmt.Sprint("group:other", i%n/50))}
				return who
			}
			w.catalogue(b, 20_000)
			q, err := compile(&sdspb.Question{Template: []byte(`<service kind="kind7"><floor>29</floor><building street="st7"/></service>`)})
			if err != nil {
				b.Fatal(err)
			}
			r := rights{grants: grants[:min(n, 50)]}
			look := func() *result {
				res, _, err := w.server.look(context.Background(), r, q, index.Fuel)
				if err != nil {
					b.Fatal(err)
				}
				return res
			}
			look()
			for w.server.store.snapshot.Load().many(r.grants) && len(w.server.store.snapshot.Load().views) == 0 {
				time.Sleep(10 * time.Millisecond) // the view is being made
			}
			b.ResetTimer()
			for range b.N {
				look()
			}
			b.StopTimer()
			found := len(look().hits)
			classes := 0
			w.server.store.snapshot.Load().open(r.grants, func(*index.Class) bool { classes++; return true })
			b.ReportMetric(float64(classes), "classes")
			b.ReportMetric(float64(found), "found")
		})
	}
}

// BenchmarkRefresh is the soft state renewed in memory.
func BenchmarkRefresh(b *testing.B) {
	w := newTown(b)
	w.catalogue(b, 10000)
	owner := w.identity(ca.KindBase, "b").ID()
	pairs := make([]announce.Pair, 100)
	for i := range pairs {
		pairs[i] = announce.Pair{Name: fmt.Sprint("s", i), Version: 1, Numbers: map[string]float64{"load": 1}}
	}
	b.ResetTimer()
	for range b.N {
		if unknown := w.server.Refresh(owner, time.Hour, pairs); len(unknown) > 0 {
			b.Fatal(unknown)
		}
	}
	b.ReportMetric(float64(b.N*len(pairs))/b.Elapsed().Seconds(), "services/s")
}

// BenchmarkChange is a new version of a service, made visible, by 64 publishers at a time. cpu-us follows the size of
// the catalogue only in what caches hold.
func BenchmarkChange(b *testing.B) {
	sizes := []int{10_000, 100_000}
	if proveScale(b) >= 100 {
		sizes = append(sizes, 1_000_000)
	}
	for _, n := range sizes {
		w := newTown(b)
		w.catalogue(b, n)
		version := uint64(1)
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			runtime.GC()
			busy := cpu()
			b.ResetTimer()
			var all sync.WaitGroup
			for k := range 64 {
				all.Go(func() {
					for i := k; i < b.N; i += 64 {
						if err := w.change(k, version+uint64(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			version += uint64(b.N) + 64
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
			b.ReportMetric(float64((cpu()-busy).Microseconds())/float64(b.N), "cpu-us")
		})
	}
}

// change is a new version of service k of a catalogue.
func (w *town) change(k int, version uint64) error {
	d := fmt.Appendf(nil, `<service xmlns="urn:ninja:service:1" kind="kind1" name="s%d"><floor>%d</floor></service>`, k, version)
	tree, err := check.Parse(d)
	if err != nil {
		return err
	}
	return w.server.store.put(announce.Body{Owner: "spiffe://test/base/b", Name: fmt.Sprint("s", k), Version: version + 1, Description: d}, index.Pack(tree))
}

// BenchmarkWatch is a change among 10,000 services against standing queries of three terms, each for another service of
// which one is concerned.
func BenchmarkWatch(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("standing=%d", n), func(b *testing.B) {
			w := newTown(b)
			w.catalogue(b, 10000)
			subs := make([]*subscriber, n)
			var classes []*index.Class
			w.server.store.snapshot.Load().open([]capability.Who{"group:staff"}, func(c *index.Class) bool { classes = append(classes, c); return true })
			var all sync.WaitGroup
			for part := range 64 {
				all.Go(func() {
					for i := part; i < n; i += 64 {
						q, err := index.Template(fmt.Appendf(nil, `<service xmlns:q="urn:ninja:query:1" kind="kind1" name="s%d"><floor q:at-least="0"/></service>`, i))
						if err != nil {
							b.Error(err)
							return
						}
						sub := newSubscriber(ca.ID(fmt.Sprint(i)), []capability.Who{"group:staff"}, nil)
						sub.Watch = index.NewWatch(q, "", classes, sub)
						if err := w.server.store.join(sub); err != nil {
							b.Error(err)
							return
						}
						sub.start, subs[i] = nil, sub
					}
				})
			}
			all.Wait()
			runtime.GC()
			owner := w.identity(ca.KindBase, "b").ID()
			b.ResetTimer()
			for k := range 64 {
				all.Go(func() {
					for i := k; i < b.N; i += 64 {
						d := fmt.Appendf(nil, `<service xmlns="urn:ninja:service:1" kind="kind1" name="s%d"><floor>%d</floor></service>`, k, i)
						tree, err := check.Parse(d)
						if err == nil {
							err = w.server.store.put(announce.Body{Owner: owner, Name: fmt.Sprint("s", k), Version: uint64(i + 2), Description: d}, index.Pack(tree))
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			heard := 0
			for _, sub := range subs {
				queue, _, lost := sub.take()
				if heard += len(queue); lost {
					heard += watchQueue
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
			b.ReportMetric(float64(heard)/float64(b.N), "told/change")
		})
	}
}

// BenchmarkQueryUnderChange asks three-term queries among 10,000 services, in turn while 10,000 changes a second arrive and
// while none do: p99-ratio is between the two, each the median of its turns.
func BenchmarkQueryUnderChange(b *testing.B) {
	w := newTown(b)
	w.catalogue(b, 10_000)
	q, err := compile(&sdspb.Question{Template: []byte(`<service kind="kind7"><floor>29</floor><building street="st7"/></service>`)})
	if err != nil {
		b.Fatal(err)
	}
	r := rights{grants: []capability.Who{"group:staff"}}
	p99 := func() float64 {
		laps := make([]time.Duration, 1500)
		for i := range laps {
			at := time.Now()
			if _, _, err := w.server.look(context.Background(), r, q, index.Fuel); err != nil {
				b.Fatal(err)
			}
			laps[i] = time.Since(at)
			time.Sleep(50 * time.Microsecond) // a server with room: what is measured is how they hinder each other
		}
		slices.Sort(laps)
		return float64(laps[len(laps)*99/100])
	}
	p99()
	var quiet, busy []float64
	changes, took := 0, time.Duration(0)
	for range 7 {
		quiet = append(quiet, p99())
		begun := time.Now()
		stop := w.changing(b, 10_000)
		busy = append(busy, p99())
		took += time.Since(begun)
		changes += stop()
	}
	slices.Sort(quiet)
	slices.Sort(busy)
	b.ReportMetric(float64(changes)/took.Seconds(), "changes/s")
	b.ReportMetric(busy[len(busy)/2]/quiet[len(quiet)/2], "p99-ratio")
	b.ReportMetric(busy[len(busy)/2]/1000, "p99-us")
}

// changing makes so many changes a second until it is stopped, which says how many it made.
func (w *town) changing(b *testing.B, rate int) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	made := make([]int, 64)
	for k := range made {
		all.Go(func() {
			tick := time.NewTicker(time.Duration(len(made)) * time.Second / time.Duration(rate))
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				if err := w.change(k, uint64(time.Now().UnixNano())); err != nil {
					b.Error(err)
					return
				}
				made[k]++
			}
		})
	}
	return func() int {
		cancel()
		all.Wait()
		n := 0
		for _, m := range made {
			n += m
		}
		return n
	}
}
