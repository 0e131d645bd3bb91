package tree

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/announce"
	"ninja/sds/check"
	"ninja/sds/index"
	"ninja/sds/route"
	"ninja/sds/summary"
	"ninja/sds/tree/treepb"
)

// BenchmarkRoutedQuery is a query that is answered two levels below the server that is asked. The floor is the sum of its
// three hops with nothing in them, measured in the same run: gRPC streams over mutual TLS whose other side sends every
// message of two bytes back, each read and written by the one goroutine that waits for it. x-empty-hops is against such
// streams as gRPC makes them, x-bare-hops against streams with the options of links (no pings of gRPC's own), which is
// the harder. first makes the client anew each time, and so also shakes hands and presents nothing twice; session asks on
// a stream that stands; callers=N is N at once on it.
func BenchmarkRoutedQuery(b *testing.B) {
	w := newWood(b)
	owner := w.identity(ca.KindBase, "b")
	root, mid, leaf := w.grow("root"), w.grow("mid", "h=root"), w.grow("leaf", "h=mid")
	for i := range 1000 {
		w.acls.set(string(owner.ID())+"#s"+strconv.Itoa(i), everyone)
		d := fmt.Sprintf(`<service kind="kind%d" floor="%d"><summary>the %dth of the services of this server, which says some more of itself</summary></service>`, i, i%7, i)
		if err := leaf.server.Put(announce.Sign(owner, "s"+strconv.Itoa(i), 1, []byte(d))); err != nil {
			b.Fatal(err)
		}
	}
	mid.knows("leaf", 1000)
	root.knows("mid", 1000)
	user := w.identity(ca.KindUser, "ann")
	hop := newEcho(b, w, []grpc.ServerOption{grpc.MaxConcurrentStreams(256)}, nil)
	bare := newEcho(b, w, sds.ServerOptions(), sds.DialOptions())
	one := func(b *testing.B, c *Client) {
		a, err := c.Ask(context.Background(), kindIs("kind500"), Options{Scope: route.All})
		if err != nil || len(a.Found) != 1 {
			b.Fatal(err, a)
		}
	}
	b.Run("session", func(b *testing.B) {
		c := root.client(user)
		one(b, c)
		empty, endEmpty := hop.pings(b)
		defer endEmpty()
		least, endLeast := bare.pings(b)
		defer endLeast()
		var r ratios
		b.ResetTimer()
		for n := 0; b.Loop(); n++ {
			if n%block == 0 { // what the floor is at the same time: other programs slow both
				b.StopTimer()
				r.next(empty(), least())
				b.StartTimer()
			}
			one(b, c)
		}
		r.next(spent{}, spent{})
		b.ReportMetric(r.median(func(query, empty, _ spent) float64 { return float64(query.work) / float64(3*empty.work) }), "x-empty-cpu")
		b.ReportMetric(r.median(func(query, _, bare spent) float64 { return float64(query.work) / float64(3*bare.work) }), "x-bare-cpu")
		b.ReportMetric(r.median(func(query, empty, _ spent) float64 { return float64(query.long) / float64(3*empty.long) }), "x-empty-hops")
		b.ReportMetric(r.median(func(query, _, bare spent) float64 { return float64(query.long) / float64(3*bare.long) }), "x-bare-hops")
	})
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			c := root.client(user)
			one(b, c)
			var next atomic.Int64
			var all sync.WaitGroup
			b.ResetTimer()
			before := cpuTime()
			for range callers {
				all.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if a, err := c.Ask(context.Background(), kindIs("kind500"), Options{Scope: route.All}); err != nil || len(a.Found) != 1 {
							b.Error(err, a)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/1000, "cpu-us/query")
		})
	}
	b.Run("first", func(b *testing.B) {
		empty, _ := hop.roundTrip(b)
		shake := hop.handshake(b)
		b.ResetTimer()
		for b.Loop() {
			c := root.client(user)
			one(b, c)
			c.Close()
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/(3*float64(empty)+float64(shake)), "x-empty-hops")
	})
}

// block is how many queries, or round trips of a floor, are measured together.
const block = 250

// spent is how long a block took, and how much computing it was, which other programs on the machine change less.
type spent struct{ long, work time.Duration }

// ratios are blocks of queries and of the floors, taken in turn.
type ratios struct {
	queries, empty, bare []spent
	begun                time.Time
	before               time.Duration
}

// next ends a block of queries, if one has begun, and begins the next behind these of the floors.
func (r *ratios) next(empty, bare spent) {
	if !r.begun.IsZero() {
		r.queries = append(r.queries, spent{time.Since(r.begun) - empty.long - bare.long, cpuTime() - r.before - empty.work - bare.work})
	}
	r.empty, r.bare = append(r.empty, empty), append(r.bare, bare)
	r.begun, r.before = time.Now(), cpuTime()
}

// median is that of a ratio over the blocks, the last of which may be short and does not count unless it is alone.
func (r *ratios) median(of func(query, empty, bare spent) float64) float64 {
	all := make([]float64, 0, len(r.queries))
	for i := range max(1, len(r.queries)-1) {
		all = append(all, of(r.queries[i], r.empty[i], r.bare[i]))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// echo answers frames with themselves, over the same transport and credentials as links.
type echo struct {
	treepb.UnimplementedTreeServer
	address string
	id      *ca.Identity
	options []grpc.DialOption
}

func (echo) Session(s treepb.Tree_SessionServer) error {
	for {
		f, err := s.Recv()
		if err != nil {
			return nil
		}
		if err := s.Send(f); err != nil {
			return err
		}
	}
}

func newEcho(b *testing.B, w *wood, server []grpc.ServerOption, client []grpc.DialOption) *echo {
	e := &echo{id: w.identity(ca.KindSDS, "echo"), options: client}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	e.address = l.Addr().String()
	g := grpc.NewServer(append(server, grpc.Creds(ca.ServerCredentials(e.id, nil)))...)
	treepb.RegisterTreeServer(g, e)
	go func() { _ = g.Serve(l) }()
	b.Cleanup(g.Stop)
	return e
}

func (e *echo) open(b *testing.B) (treepb.Tree_SessionClient, func()) {
	conn, err := grpc.NewClient("passthrough:///"+e.address, append(e.options, grpc.WithTransportCredentials(ca.ClientCredentials(e.id, nil)))...)
	if err != nil {
		b.Fatal(err)
	}
	s, err := treepb.NewTreeClient(conn).Session(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return s, func() { conn.Close() }
}

func (e *echo) ping(b *testing.B, s treepb.Tree_SessionClient) {
	if err := s.Send(&treepb.Frame{Version: 1, Kind: &treepb.Frame_Cancel{Cancel: 1}}); err != nil {
		b.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		b.Fatal(err)
	}
}

// roundTrip is the best mean of some rounds of an empty hop: how long it takes, and how much work it is, which other
// programs on the machine change less.
func (e *echo) roundTrip(b *testing.B) (long, work time.Duration) {
	s, end := e.open(b)
	defer end()
	long, work = time.Hour, time.Hour
	for range 5 {
		begun, before := time.Now(), cpuTime()
		for range 1000 {
			e.ping(b, s)
		}
		long, work = min(long, time.Since(begun)/1000), min(work, (cpuTime()-before)/1000)
	}
	return long, work
}

// pings opens a stream; what it returns measures a block of round trips on it.
func (e *echo) pings(b *testing.B) (measure func() spent, end func()) {
	s, end := e.open(b)
	return func() spent {
		begun, before := time.Now(), cpuTime()
		for range block {
			e.ping(b, s)
		}
		return spent{time.Since(begun), cpuTime() - before}
	}, end
}

// cpuTime is how long this process has been computing.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// handshake is the best mean of connecting and one round.
func (e *echo) handshake(b *testing.B) time.Duration {
	best := time.Hour
	for range 3 {
		begun := time.Now()
		for range 20 {
			s, end := e.open(b)
			e.ping(b, s)
			end()
		}
		best = min(best, time.Since(begun)/20)
	}
	return best
}

// BenchmarkSummaryUpdate is what a change of one of many services costs: its terms told by the server, and taken by the
// parent. A period takes one, however many services have changed. The floor is a copy of the set.
func BenchmarkSummaryUpdate(b *testing.B) {
	for _, services := range []int{1000, 100_000} {
		b.Run(strconv.Itoa(services), func(b *testing.B) {
			plan := summary.Plan{Epoch: 1, Pairs: []summary.Key{}}
			var c summary.Counting
			facts := make([]summary.Facts, services+1000)
			for i := range facts {
				d, err := check.Parse([]byte(fmt.Sprintf(`<service kind="kind%d" floor="%d" room="%d"><speed>%d</speed></service>`, i%40, i%20, i, i%1000)))
				if err != nil {
					b.Fatal(err)
				}
				facts[i] = summary.Describe("spiffe://test/base/b", index.Pack(d))
				if i < services {
					plan.Terms(facts[i], c.Add)
				}
			}
			n, sum := c.Len(), c.Check()
			table, err := new(summary.Table).Apply(&summary.Message{Sequence: 1, Terms: n, Check: sum, Added: c.Set()})
			if err != nil {
				b.Fatal(err)
			}
			begun := time.Now()
			for range 100 {
				_ = slices.Clone(table.Set())
			}
			floor := float64(time.Since(begun)) / 100
			b.ResetTimer()
			i := 0
			for b.Loop() {
				plan.Terms(facts[i%services], c.Remove)
				plan.Terms(facts[services+i%1000], c.Add)
				m := &summary.Message{Sequence: table.Sequence() + 1, Change: true, Check: c.Check(), Terms: c.Len()}
				m.Added, m.Removed = c.Delta()
				got, err := summary.Decode(m.Encode())
				if err == nil {
					table, err = table.Apply(got)
				}
				if err != nil {
					b.Fatal(err)
				}
				plan.Terms(facts[i%services], c.Add)
				plan.Terms(facts[services+i%1000], c.Remove)
				i++
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/floor, "x-copy")
		})
	}
}
