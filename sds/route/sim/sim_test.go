package sim

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"strconv"
	"testing"

	"ninja/sds/summary"
)

// seeds is how many small runs are made.
func seeds() int {
	if n, _ := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); n > 0 {
		return 10 * n
	}
	return 4
}

// TestNothingIsMissed: under churn, delays and links that fail, every service that the servers on the way had been told
// of is found, or the link behind which it lies is named; and at least 95 % of forwards to children find something.
func TestNothingIsMissed(t *testing.T) {
	asked, matches, n := 0, 0, seeds()
	var all Count
	for seed := range n {
		c := Small(uint64(seed))
		if n > 4 {
			c.Queries = 1000 // 10^6 over a thousand seeds
		}
		r, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if r.Missed > 0 || r.Unnamed > 0 {
			var b bytes.Buffer
			r.Print(&b, 1)
			t.Fatalf("missed: run again with seed %d\n%s", seed, b.String())
		}
		asked, matches = asked+r.Asked, matches+r.Matches
		all.add(r.Count)
	}
	t.Logf("PROVE %d seeds, %d queries with %d matches: 0 missed, %.2f %% of forwards to children useful", n, asked, matches, 100*all.UsefulDown())
	if all.UsefulDown() < 0.95 {
		t.Errorf("%.4f of forwards to children are useful, want 0.95", all.UsefulDown())
	}
	if matches < asked {
		t.Errorf("%d matches of %d queries: the test tests little", matches, asked)
	}
}

// TestTheSameSeedIsTheSameRun, however many processors ask, so that a seed that failed can be looked into.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	var out [2]bytes.Buffer
	for i := range out {
		c := Small(42)
		c.Workers, c.Queries = 1+2*i, 3*atOnce
		r, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		r.Print(&out[i], 1)
	}
	if out[0].String() != out[1].String() {
		t.Errorf("two runs of one seed:\n%s\n%s", &out[0], &out[1])
	}
}

// TestARunCanBeEnded before its end.
func TestARunCanBeEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Small(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that was ended says %v", err)
	}
}

// TestTheTruthIsTrue: what the lists say should be found, after services have come and gone, is what looking at every
// service says.
func TestTheTruthIsTrue(t *testing.T) {
	c := Small(3)
	r := &run{Config: c, world: newWorld(3), Result: Result{Config: c}}
	r.build()
	match := make([]int32, len(r.nodes))
	matches := 0
	for step := range 20 {
		for i, n := range r.nodes {
			for range r.IntN(20) {
				r.change(place{int32(i), int32(r.IntN(len(n.services)))})
			}
		}
		for range 100 {
			q := r.draw()
			total := r.truth.count(q, match)
			matches += total
			for i, n := range r.nodes {
				want := map[place]bool{}
				for k := range n.services {
					if q.matches(&n.services[k], i) {
						want[place{int32(i), int32(k)}] = true
					}
				}
				if int(match[i]) != len(want) {
					t.Fatalf("step %d, %v: %d services at server %d, want %d", step, q, match[i], i, len(want))
				}
				total -= len(want)
				if q.conditions() == 1 && q.name == 0 {
					r.truth.each(q, i, func(p place) { delete(want, p) })
				} else {
					r.truth.each(q, -1, func(p place) { delete(want, p) })
				}
				if len(want) > 0 {
					t.Fatalf("step %d, %v: %d services of server %d are not told", step, q, len(want), i)
				}
			}
			if total != 0 {
				t.Fatalf("step %d, %v: %d more in all", step, q, total)
			}
		}
	}
	if matches < 2000 {
		t.Errorf("%d matches: the test tests little", matches)
	}
}

// TestWhatIsMissedIsSeen: when a summary is wrong, and when an outcome does not name a link that is down, the run says so.
func TestWhatIsMissedIsSeen(t *testing.T) {
	begin := func() *run {
		c := Small(5)
		r := &run{Config: c, world: newWorld(5), Result: Result{Config: c}}
		r.build()
		if err := r.warm(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := begin()
	root, child := r.nodes[0], r.nodes[1]
	empty, err := new(summary.Table).Apply(&summary.Message{Sequence: 1, Plan: child.plan})
	if err != nil {
		t.Fatal(err)
	}
	root.tables[child] = empty
	r.ask(1000)
	if r.Missed == 0 || r.First == "" {
		t.Errorf("a summary tells nothing of what is there, and %d services are missed: %q", r.Missed, r.First)
	}
	r = begin()
	r.nodes[1].cut, r.Paper = true, false
	r.look()
	root = r.nodes[0]
	root.branches, root.who = root.branches[1:], root.who[1:] // the root has forgotten the child behind the link
	c := newCrowd(r)
	c.asked = c.asked[:1000]
	for i := range c.asked {
		c.asked[i] = asked{query: r.draw(), start: root}
	}
	c.ask()
	unnamed := 0
	for i := range c.asked {
		unnamed += c.asked[i].unnamed
	}
	if unnamed == 0 {
		t.Error("a link is down and not named, and nothing is counted")
	}
}

// TestTheLawHolds: what two smaller runs say of terms and changes is what a larger one measures, within an eighth. So the
// same law may be asked about sizes that no simulation reaches.
func TestTheLawHolds(t *testing.T) {
	c := Small(9)
	c.Servers, c.Services, c.Fanout, c.Cut, c.Queries, c.Paper = 121, 30, 3, 0, 200, false
	c.Churn, c.Delay, c.Periods = 0.05, 0, 4
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	configs, ok := r.Smaller()
	if !ok {
		t.Fatal("the run is too small")
	}
	var size, terms, changed, bytes [3]float64
	for i, c := range configs {
		x, err := Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		size[i], terms[i], changed[i], bytes[i] = x.Top()
	}
	size[2], terms[2], changed[2], bytes[2] = r.Top()
	hold := func(what string, says, is float64) {
		t.Logf("PROVE %s of a link with %.0f services behind it: %.0f by the law, %.0f measured (%+.1f %%)", what, size[2], says, is, 100*(says/is-1))
		if off := math.Abs(math.Log(says / is)); off > math.Log(1.125) {
			t.Errorf("%s of a link with %.0f services behind it: %.0f by the law, %.0f measured", what, size[2], says, is)
		}
	}
	hold("terms", Fit(alone, size[0], terms[0], size[1], terms[1]).At(size[2]), terms[2])
	law := Fit(2*c.Churn*alone, size[0], changed[0], size[1], changed[1])
	hold("terms that change in a period", law.At(size[2]), changed[2])
	hold("bytes of changes in a period", ChangeBytes(law.At(size[2])), bytes[2])
}
