package sim

import (
	"fmt"
	"io"
	"math"
)

// UsefulDown is the share of forwards to children that found something there; Useful that of all forwards.
func (c Count) UsefulDown() float64 { return 1 - float64(c.DownUseless)/math.Max(1, float64(c.Down)) }

// Useful is the share of all forwards that found something.
func (c Count) Useful() float64 {
	return 1 - float64(c.DownUseless+c.UpUseless)/math.Max(1, float64(c.Down+c.Up))
}

// Good reports whether the run kept what is promised.
func (r *Result) Good() bool { return r.Missed == 0 && r.Unnamed == 0 && r.UsefulDown() >= 0.95 }

// Print writes what was measured. period is how long one is taken to be, in seconds.
func (r *Result) Print(w io.Writer, period float64) {
	q := float64(max(1, r.Asked))
	fmt.Fprintf(w, "seed %d: %d servers x %d services, fan-out %d, %d queries in %d periods, %.1f %% of services change and %.1f %% of links are down in a period\n",
		r.Seed, r.Servers, r.Services, r.Fanout, r.Asked, r.Periods, 100*r.Churn, 100*r.Cut)
	fmt.Fprintf(w, "matches %.1f a query; missed %d, behind links that were not named %d %s\n", float64(r.Matches)/q, r.Missed, r.Unnamed, r.First)
	fmt.Fprintf(w, "forwards a query: %.2f down, of which %.2f %% useful; %.2f up, of which %.1f %% useful\n",
		float64(r.Down)/q, 100*r.UsefulDown(), float64(r.Up)/q, 100*(1-float64(r.UpUseless)/math.Max(1, float64(r.Up))))
	if r.Paper {
		fmt.Fprintf(w, "paper's rule (tags and pairs, filters of any size): %.2f down, of which %.2f %% useful\n", float64(r.Pairs.Down)/q, 100*r.Pairs.UsefulDown())
	}
	fmt.Fprintf(w, "the root is behind its servers by %.1f periods on average, %d at most\n", r.Stale, r.Stalest)
	for l, links := range r.Links {
		rate := float64(r.Bytes[l]) / float64(links) / float64(r.Periods) / period
		fmt.Fprintf(w, "level %d: %4d links, %7d services behind each: %8d terms in %8d bytes; changes %8.0f bytes a second and link", l+1, links, r.Behind[l], r.Terms[l], r.Whole[l], rate)
		if r.Paper { // a filter at one in fifty wants 8.1 bits a term, and is sent whole
			fmt.Fprintf(w, " (the paper's filter, sent whole: %8.0f)", float64(r.PairTerms[l])*8.1/8/period)
		}
		fmt.Fprintln(w)
	}
}

// Law is how something on a link grows with the services behind it: A x services^B. Terms grow so because the more
// services there are, the fewer of them say what nobody has said (Heaps); what changes shows above as far as nobody else
// says it, so that traffic grows so too.
type Law struct{ A, B float64 }

// Fit is the law through what was measured at two sizes.
func Fit(s1, v1, s2, v2 float64) Law {
	b := math.Log(v2/v1) / math.Log(s2/s1)
	return Law{v1 / math.Pow(s1, b), b}
}

// At is what the law says of a link with so many services behind it.
func (l Law) At(services float64) float64 { return l.A * math.Pow(services, l.B) }

// Bytes is the size of a set of so many terms on the wire: Rice's code of 40-bit fingerprints.
func Bytes(terms float64) float64 { return terms * (40 - math.Log2(terms) + 1.5) / 8 }
