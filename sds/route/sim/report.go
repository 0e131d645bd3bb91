package sim

import (
	"fmt"
	"io"
	"math"

	"ninja/sds/summary"
)

// UsefulDown is the share of forwards to children that found something there; Useful that of all forwards.
func (c Count) UsefulDown() float64 { return 1 - float64(c.DownUseless)/math.Max(1, float64(c.Down)) }

// Useful is the share of all forwards that found something.
func (c Count) Useful() float64 {
	return 1 - float64(c.DownUseless+c.UpUseless)/math.Max(1, float64(c.Down+c.Up))
}

// Good reports whether the run kept what is promised.
func (r *Result) Good() bool {
	return r.Missed+r.Unnamed+r.Flagged+r.Late == 0 && r.UsefulDown() >= 0.95
}

// Print writes what was measured. period is how long one is taken to be, in seconds.
func (r *Result) Print(w io.Writer, period float64) {
	q := float64(max(1, r.Asked))
	fmt.Fprintf(w, "seed %d: %d servers x %d services, fan-out %d, %d queries in %d periods, %.1f %% of services change and %.1f %% of links are down in a period\n",
		r.Seed, r.Servers, r.Services, r.Fanout, r.Asked, r.Periods, 100*r.Churn, 100*r.Cut)
	fmt.Fprintf(w, "matches %.1f a query; missed %d, behind links that were not named %d %s\n", float64(r.Matches)/q, r.Missed, r.Unnamed, r.First)
	fmt.Fprintf(w, "forwards a query: %.2f down, of which %.2f %% useful; %.2f up, of which %.1f %% useful; %.2f %% of all; honest children flagged %d times\n",
		float64(r.Down)/q, 100*r.UsefulDown(), float64(r.Up)/q, 100*(1-float64(r.UpUseless)/math.Max(1, float64(r.Up))), 100*r.Useful(), r.Flagged)
	if r.Paper {
		fmt.Fprintf(w, "paper's rule (tags and pairs, filters of any size): %.2f down, of which %.2f %% useful\n", float64(r.Pairs.Down)/q, 100*r.Pairs.UsefulDown())
	}
	fmt.Fprintf(w, "the root is behind its servers by %.1f periods on average, %d at most; %d times by more than messages may take though no link had failed\n", r.Stale, r.Stalest, r.Late)
	for l, links := range r.Links {
		rate := func(bytes []int) float64 { return float64(bytes[l]) / float64(links) / float64(r.Periods) / period }
		fmt.Fprintf(w, "level %d: %4d links, %7d services behind each: %8d terms in %8d bytes; changes %8.0f bytes a second and link, after failures %8.0f", l+1, links, r.Behind[l], r.Terms[l], r.Whole[l], rate(r.Bytes), rate(r.Again))
		if r.Paper { // a filter at one in fifty wants 8.1 bits a term, and is sent whole
			fmt.Fprintf(w, " (the paper's filter, sent whole: %8.0f; with the triples that prune alike: %8.0f)", float64(r.PairTerms[l])*8.1/8/period, float64(r.Terms[l])*8.1/8/period)
		}
		fmt.Fprintln(w)
	}
}

// Law is how something on a link grows with the services behind it: Each x services + A x services^B. Each is what every
// service says alone. The other terms grow so because the more services there are, the fewer of them say what nobody has
// said (Heaps); what changes shows above as far as nobody else says it, so that the terms of changes grow so too. The
// exponent falls as values are used up, so that the law of smaller sizes says too much of larger ones rather than too little.
type Law struct{ Each, A, B float64 }

// Fit is the law through what was measured at two sizes, of which each service says so much alone.
func Fit(each, s1, v1, s2, v2 float64) Law {
	v1, v2 = math.Max(1, v1-each*s1), math.Max(1, v2-each*s2)
	b := math.Log(v2/v1) / math.Log(s2/s1)
	return Law{each, v1 / math.Pow(s1, b), b}
}

// At is what the law says of a link with so many services behind it.
func (l Law) At(services float64) float64 { return l.Each*services + l.A*math.Pow(services, l.B) }

// String is the law with s for services.
func (l Law) String() string { return fmt.Sprintf("%.3g s + %.3g s^%.3f", l.Each, l.A, l.B) }

// Bytes is the size of a set of so many terms on the wire: Rice's code of 40-bit fingerprints.
func Bytes(terms float64) float64 {
	return terms * (40 - math.Log2(max(2, terms)) + 1.5) / 8
}

// header is how long a message of changes is without terms, with a plan of some eight keys in pairs and in triples.
const header = 128

// ChangeBytes is the size of a message of changes: half of the terms came, half went.
func ChangeBytes(terms float64) float64 { return header + 2*Bytes(terms/2) }

// Top is what a link to the root has and carries, on average: services behind it, terms of their summary, terms that
// change in a period, and bytes that say so.
func (r *Result) Top() (services, terms, changed, bytes float64) {
	n := float64(r.Links[0])
	p := n * float64(r.Periods)
	return float64(r.Behind[0]), float64(r.Terms[0]), float64(r.Changed[0]) / p, float64(r.Bytes[0]) / p
}

// Smaller are runs of a ninth and a third of the servers, with the plan of the run: what the law of their links says of
// those of the run can be held against it. ok is false when the run is too small.
func (r *Result) Smaller() (out []Config, ok bool) {
	for _, part := range []int{9, 3} {
		c := r.Config
		each := max(1, r.Servers/r.Fanout/part) // servers in a branch
		c.Servers, c.Queries, c.Paper, c.Cut, c.Delay = 1+r.Fanout*each, 200, false, 0, 0
		c.Plan, c.Periods = r.Told, 4*r.Periods*part // so that enough services change
		out = append(out, c)
	}
	return out, out[0].Servers < out[1].Servers && 2*out[1].Servers < r.Servers
}

// Extrapolate prints what the law of the links of two smaller runs says of those of the run, and how far it is off; and
// what it says of a link above so many services.
func (r *Result) Extrapolate(w io.Writer, small, middle *Result, until, period float64) {
	s1, t1, c1, _ := small.Top()
	s2, t2, c2, _ := middle.Top()
	size, terms, changed, bytes := r.Top()
	told, changes := Fit(alone, s1, t1, s2, t2), Fit(2*r.Churn*alone, s1, c1, s2, c2)
	off := func(says, is float64) string {
		return fmt.Sprintf("%.0f (measured %.0f, %+.1f %%)", says, is, 100*(says/is-1))
	}
	fmt.Fprintf(w, "law, from links with %.0f and %.0f services (s) behind them: terms = %v, of which change in a period %v\n", s1, s2, told, changes)
	fmt.Fprintf(w, "law, of a link of the run with %.0f: terms %s, changing %s, bytes of changes a second %s\n",
		size, off(told.At(size), terms), off(changes.At(size), changed), off(ChangeBytes(changes.At(size))/period, bytes/period))
	whole := told.At(until)
	fmt.Fprintf(w, "above %.3g services a link would tell %.3g terms, %.3g bytes as a whole and %.3g bytes a second of changes",
		until, whole, Bytes(whole), ChangeBytes(changes.At(until))/period)
	if links := math.Ceil(whole / summary.MaxTerms); links > 1 {
		fmt.Fprintf(w, ": over the %d terms of one summary, so that the services of such a branch must be spread over %.0f links, of %.3g services and %.3g bytes a second each",
			summary.MaxTerms, links, until/links, ChangeBytes(changes.At(until/links))/period)
	}
	fmt.Fprintln(w)
}
