package sds

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"ninja/ca"
	"ninja/sds/announce"
	"ninja/sds/check"
)

// spent is processor time of this process, of all its threads.
func spent(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAnnouncedChange is a changed description among 10,000 services, from its owner's signature to the answers of
// queries. The floor is one signature and one pass over the document; x-floor is the processor time beside it.
func BenchmarkAnnouncedChange(b *testing.B) {
	w := newTown(b)
	w.catalogue(b, 10_000)
	owner := w.identity(ca.KindBase, "b")
	peer, err := owner.Verify(owner.Chain())
	if err != nil {
		b.Fatal(err)
	}
	const senders = 64
	bodies := make([]announce.Body, 0, b.N)
	for i := range b.N {
		d := fmt.Appendf(nil, `<service xmlns="urn:ninja:service:1" kind="kind1" name="s%d"><summary>Service number %d of the catalogue</summary><floor>%d</floor><building city="c%d" street="st%d"/><node control="10.0.0.1:7000" cores="4" memory="2"/></service>`,
			i%senders, i, i%50, i%10, i%99)
		body := announce.Sign(owner, fmt.Sprint("s", i%senders), uint64(i+2), d)
		body.Lifetime = time.Hour
		bodies = append(bodies, body)
	}
	check1 := func(body announce.Body) error {
		err := body.VerifyBy(peer)
		if err == nil {
			_, err = check.Parse(body.Description)
		}
		return err
	}
	before := spent(b)
	for _, body := range bodies {
		if err := check1(body); err != nil {
			b.Fatal(err)
		}
	}
	floor := spent(b) - before
	runtime.GC()
	before = spent(b)
	b.ResetTimer()
	var all sync.WaitGroup
	for k := range senders {
		all.Go(func() {
			for i := k; i < b.N; i += senders {
				err := bodies[i].VerifyBy(peer)
				if err == nil {
					err = w.server.Put(bodies[i])
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
	took := spent(b) - before
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
	b.ReportMetric(float64(b.N)/took.Seconds(), "changes/s-core")
	b.ReportMetric(float64(took)/float64(floor), "x-floor")
}

// BenchmarkRefreshOfOne is the worst case of a refresh: senders with one service each, whose datagrams come one after
// the other as a receiver hands them over. The floor is the hand-over to another goroutine and back.
func BenchmarkRefreshOfOne(b *testing.B) {
	w := newTown(b)
	w.catalogue(b, 10_000)
	owner := w.identity(ca.KindBase, "b").ID()
	pairs := make([]announce.Pair, 10_000)
	for i := range pairs {
		pairs[i] = announce.Pair{Name: fmt.Sprint("s", i), Version: 1}
	}
	to, from := make(chan bool), make(chan bool)
	go func() {
		for range to {
			from <- true
		}
	}()
	before := spent(b)
	for range b.N {
		to <- true
		<-from
	}
	floor := spent(b) - before
	close(to)
	before = spent(b)
	b.ResetTimer()
	for i := range b.N {
		if unknown := w.server.Refresh(owner, time.Hour, pairs[i%len(pairs):][:1]); len(unknown) > 0 {
			b.Fatal(unknown)
		}
	}
	b.StopTimer()
	took := spent(b) - before
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "services/s")
	b.ReportMetric(float64(b.N)/took.Seconds(), "services/s-core")
	b.ReportMetric(float64(took)/float64(floor), "x-floor")
}
