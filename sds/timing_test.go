package sds

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/announce"
	"ninja/sds/sdspb"
)

// TestHiddenTakesNoTime is row 9 of the threats: existence by time. Answers of a server with hidden services are not
// told from those of one without by Welch's t; a delay of 300 ns would be, and two equal servers are not. The full
// count is 10^6 queries (NINJA_PROVE_SCALE=100).
func TestHiddenTakesNoTime(t *testing.T) {
	a, err := ca.NewAuthority(world.Real(), "test")
	if err != nil {
		t.Fatal(err)
	}
	w := &town{t: t, ca: a}
	owner, user, server := w.identity(ca.KindBase, "b"), w.identity(ca.KindUser, "u"), w.identity(ca.KindSDS, "s")
	acls := &fakeACLs{lists: map[string]*capability.ACL{}, fresh: true, changed: make(chan struct{})}
	absent, hidden, equal := timed(t, server, acls, owner, false), timed(t, server, acls, owner, true), timed(t, server, acls, owner, false)
	ctx := callFrom(context.Background(), user)
	ask := &sdspb.QueryRequest{Question: &sdspb.Question{Template: []byte(`<service kind="printer"><floor>3</floor></service>`), Limit: 10}}
	query := func(s *Server, extra time.Duration) float64 {
		begun := time.Now()
		if _, err := s.Query(ctx, ask); err != nil {
			t.Fatal(err)
		}
		for until := time.Since(begun) + extra; extra > 0 && time.Since(begun) < until; {
		}
		return float64(time.Since(begun).Nanoseconds())
	}
	scale := proveScale(t)
	n := 10_000 * scale
	samples := make([][]float64, 4)
	for i := range n {
		for k := range samples { // in turn, and in another order each time, so that what the machine does hits all alike
			switch k = (k*3 + i) % 4; k {
			case 0:
				samples[k] = append(samples[k], query(absent, 0))
			case 1:
				samples[k] = append(samples[k], query(hidden, 0))
			case 2:
				samples[k] = append(samples[k], query(equal, 0))
			case 3:
				samples[k] = append(samples[k], query(absent, 300*time.Nanosecond))
			}
		}
	}
	ceiling := slices.Sorted(slices.Values(samples[0]))[n*3/5] // interruptions say nothing of the server
	for k := range samples {
		samples[k] = slices.DeleteFunc(samples[k], func(x float64) bool { return x > ceiling })
	}
	found, quiet, caught := welch(samples[0], samples[1]), welch(samples[0], samples[2]), welch(samples[0], samples[3])
	t.Logf("%d queries each: t hidden %.2f, equal worlds %.2f, 300 ns %.2f; mean %.0f ns", n, found, quiet, caught, mean(samples[0]))
	switch {
	case (caught < 4.5 || quiet > 4.5) && scale < 10:
		t.Logf("so few queries on so busy a machine tell nothing: the controls do not hold")
	case caught < 4.5 || quiet > 4.5:
		t.Errorf("the controls do not hold: the test tells nothing; run it on a quiet machine")
	case found > 4.5:
		t.Errorf("t = %.2f: hidden services are told by time", found)
	}
}

// timed is a server with 200 services that everyone may find and, when asked for, 200 like them that only others may.
func timed(t *testing.T, id *ca.Identity, acls *fakeACLs, owner *ca.Identity, hidden bool) *Server {
	t.Helper()
	s, err := NewServer(Config{Identity: id, World: world.Real(), ACLs: acls, Allowance: math.MaxInt32})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
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
	return s
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
