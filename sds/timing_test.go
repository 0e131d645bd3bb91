package sds

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
)

// TestHiddenTakesNoTime is row 9 of the threats: existence by time. Answers of a server with hidden services are not
// told from those of one without by Welch's t; a delay of 300 ns would be, and two equal servers are not. The full
// count is 10^6 queries of each (NINJA_PROVE_SCALE=100).
//
// Where a server lies in memory makes a few nanoseconds, also between equal ones, and at 10^6 queries few are enough. So
// the worlds are made anew for every block, and asked in an order drawn for every round.
func TestHiddenTakesNoTime(t *testing.T) {
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, ca: a}
	owner, user, server := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u"), w.identity(ca.KindSDS, "s")
	const seed = 11
	random := rand.New(rand.NewPCG(seed, seed))
	scale := proveScale(t)
	blocks := min(5+scale, 100)
	each := 10_000 * scale / blocks
	var all, means [4][]float64 // absent, hidden, equal to absent, absent and 300 ns
	for range blocks {
		samples := timeBlock(t, random, each, func(hidden bool) func() {
			return timed(t, server, owner, user, hidden)
		})
		ceiling := slices.Sorted(slices.Values(slices.Concat(samples[:]...)))[each*4*3/5] // interruptions say nothing of the server
		for k, s := range samples {
			s = slices.DeleteFunc(s, func(x float64) bool { return x > ceiling })
			all[k], means[k] = append(all[k], s...), append(means[k], mean(s))
		}
	}
	of := func(t func(x, y []float64) float64, s [4][]float64) (hidden, equal, late float64) {
		return t(s[0], s[1]), t(s[0], s[2]), t(s[0], s[3])
	}
	found, quiet, caught := of(welch, all)
	t.Logf("PROVE %d queries each: Welch's t of hidden %.2f, of equal worlds %.2f, of 300 ns %.2f; mean %.0f ns", blocks*each, found, quiet, caught, mean(all[0]))
	f, q, c := of(paired, means)
	t.Logf("PROVE the same by %d blocks' differences: t of hidden %.2f, of equal worlds %.2f, of 300 ns %.2f", blocks, f, q, c)
	switch {
	case (caught < 4.5 || quiet > 4.5) && scale < 10:
		t.Logf("so few queries on so busy a machine tell nothing: the controls do not hold")
	case caught < 4.5 || quiet > 4.5:
		t.Errorf("the controls do not hold: the test tells nothing; run it on a quiet machine")
	case found > 4.5:
		t.Errorf("t = %.2f: hidden services are told by time", found)
	}
}

// timeBlock makes four worlds and times so many queries of each, the last with 300 ns more.
func timeBlock(t *testing.T, random *rand.Rand, n int, open func(hidden bool) func()) (samples [4][]float64) {
	t.Helper()
	var query [4]func()
	for _, k := range random.Perm(4) {
		query[k] = open(k == 1)
	}
	for k := range samples {
		samples[k] = make([]float64, 0, n)
	}
	runtime.GC()
	for range n {
		for _, k := range random.Perm(4) {
			begun := time.Now()
			query[k]()
			if k == 3 {
				for until := time.Since(begun) + 300*time.Nanosecond; time.Since(begun) < until; {
				}
			}
			samples[k] = append(samples[k], float64(time.Since(begun).Nanoseconds()))
		}
	}
	return samples
}

// timed asks a server with 200 services that everyone may find and, when asked for, 200 like them that only others may.
// It asks on its own, and on a session where the answer is remembered.
func timed(t *testing.T, id, owner, user *ca.Identity, hidden bool) func() {
	t.Helper()
	acls := &fakeACLs{lists: map[string]*capability.ACL{}, fresh: true, changed: make(chan struct{})}
	s, err := NewServer(Config{Identity: id, World: world.Real(), ACLs: acls, Allowance: math.MaxInt32})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	for i := range 400 {
		name, who := fmt.Sprint("p", i), capability.Everyone
		if i%2 == 1 {
			who = "group:others"
		}
		acls.set(string(owner.ID())+"#"+name, who)
		if i%2 == 1 && !hidden {
			continue
		}
		b := announce.Sign(owner, name, 1, fmt.Appendf(nil, printer, name, i/2%20, i%4))
		b.Lifetime = time.Hour
		if err := s.Put(b); err != nil {
			t.Fatal(err)
		}
	}
	cancel() // what is answered stays; only the store's own goroutine would disturb
	<-done
	from := callFrom(context.Background(), user)
	question := &sdspb.Question{Template: []byte(`<service kind="printer"><floor>3</floor></service>`), Limit: 10}
	packed, err := proto.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	session := newQuiet(from, s, user, nil)
	return func() {
		_, err := s.Query(from, &sdspb.QueryRequest{Question: question})
		done, a, err2 := session.quick(packedAsk{id: 1, question: packed})
		if err != nil || err2 != nil || !done || len(a.result.hits) == 0 {
			t.Fatal(err, err2)
		}
	}
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// welch is the absolute value of Welch's t of two samples.
func welch(x, y []float64) float64 {
	spread := func(v []float64) float64 {
		m, sum := mean(v), 0.0
		for _, z := range v {
			sum += (z - m) * (z - m)
		}
		return sum / float64(len(v)-1) / float64(len(v))
	}
	return math.Abs(mean(x)-mean(y)) / math.Sqrt(spread(x)+spread(y))
}

// paired is the absolute value of Student's t of the differences of what was measured together.
func paired(x, y []float64) float64 {
	d := make([]float64, len(x))
	for i := range x {
		d[i] = x[i] - y[i]
	}
	m, sum := mean(d), 0.0
	for _, v := range d {
		sum += (v - m) * (v - m)
	}
	return math.Abs(m) / math.Sqrt(sum/float64(len(d)-1)/float64(len(d)))
}
