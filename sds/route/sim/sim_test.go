package sim

import (
	"bytes"
	"math"
	"os"
	"strconv"
	"testing"
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
		r, err := Run(c)
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

// TestTheSameSeedIsTheSameRun, so that a seed that failed can be looked into.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	var out [2]bytes.Buffer
	for i := range out {
		r, err := Run(Small(42))
		if err != nil {
			t.Fatal(err)
		}
		r.Print(&out[i], 1)
	}
	if out[0].String() != out[1].String() {
		t.Errorf("two runs of one seed:\n%s\n%s", &out[0], &out[1])
	}
}

// TestTheLawHolds: what two small runs say of terms and traffic is what a larger one measures, within a quarter. So the
// same law may be asked about sizes that no simulation reaches.
func TestTheLawHolds(t *testing.T) {
	var size, terms, rate [3]float64
	for i, servers := range []int{13, 40, 121} {
		c := Small(9)
		c.Servers, c.Services, c.Fanout, c.Cut, c.Queries, c.Paper = servers, 30, 3, 0, 200, false
		c.Churn, c.Delay, c.Periods = 0.05, 0, 10
		r, err := Run(c)
		if err != nil {
			t.Fatal(err)
		}
		size[i], terms[i] = float64(r.Behind[0]), float64(r.Terms[0])
		rate[i] = float64(r.Bytes[0]) / float64(r.Links[0]) / float64(r.Periods)
	}
	for what, v := range map[string][3]float64{"terms": terms, "bytes a period": rate} {
		law := Fit(size[0], v[0], size[1], v[1])
		t.Logf("PROVE %s = %.1f x services^%.3f: behind a link with %.0f services %.0f, measured %.0f", what, law.A, law.B, size[2], law.At(size[2]), v[2])
		if off := math.Abs(math.Log(law.At(size[2]) / v[2])); off > math.Log(1.25) {
			t.Errorf("%s behind a link with %.0f services: %.0f by the law, %.0f measured", what, size[2], law.At(size[2]), v[2])
		}
	}
}
