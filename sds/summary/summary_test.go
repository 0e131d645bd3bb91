package summary

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ninja/sds/check"
	"ninja/sds/index"
)

// scale multiplies counts in full runs.
func scale() int {
	n, _ := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	return max(1, n)
}

var kinds = []string{"printer", "scanner", "lamp", "door"}

// document is a random one; hazards are elements within elements, several of a name, numbers and what is none.
func document(r *rand.Rand) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<service kind="%s" floor="%d">`, kinds[r.IntN(len(kinds))], r.IntN(6))
	for range r.IntN(4) {
		switch r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, `<ppm>%d</ppm>`, r.IntN(60))
		case 1:
			fmt.Fprintf(&b, `<ppm><fast>%d</fast></ppm>`, r.IntN(60))
		case 2:
			fmt.Fprintf(&b, `<where room="%d">%s</where>`, r.IntN(9), []string{"north", "south", "-4.5e3", ""}[r.IntN(4)])
		case 3:
			fmt.Fprintf(&b, `<kind>%s</kind>`, kinds[r.IntN(len(kinds))])
		case 4:
			for range r.IntN(30) {
				fmt.Fprintf(&b, `<tag v="%d"/>`, r.IntN(40))
			}
		}
	}
	b.WriteString("</service>")
	return b.String()
}

func query(r *rand.Rand) (*index.Query, string, error) {
	x := []string{
		fmt.Sprintf(`/service[@kind='%s']`, kinds[r.IntN(4)]),
		fmt.Sprintf(`/service[ppm>=%d and ppm<=%d]`, r.IntN(60), r.IntN(60)),
		fmt.Sprintf(`//ppm[.>%d and .<%d]`, r.IntN(60), r.IntN(60)),
		fmt.Sprintf(`/service[@floor=%d or @kind='%s']`, r.IntN(6), kinds[r.IntN(4)]),
		fmt.Sprintf(`//where[@room=%d]`, r.IntN(9)),
		`//where[starts-with(.,'no')]`,
		fmt.Sprintf(`/service[not(ppm) and @floor<%d]`, r.IntN(6)),
		fmt.Sprintf(`//tag[@v=%d]`, r.IntN(40)),
		fmt.Sprintf(`//*[@room=%d]`, r.IntN(9)),
		fmt.Sprintf(`//@v[.>%d]`, r.IntN(40)),
		`/service[kind or where/@room]`,
		fmt.Sprintf(`//fast[.<=%d]`, r.IntN(60)-70),
	}
	var parts []*index.Query
	var text []string
	for range 1 + r.IntN(4) {
		s := x[r.IntN(len(x))]
		q, err := index.XPath(s, nil)
		if err != nil {
			return nil, s, err
		}
		parts, text = append(parts, q), append(text, s)
	}
	if r.IntN(3) == 0 {
		s := fmt.Sprintf(`<service xmlns:q="urn:ninja:query:1" floor="%d"><ppm q:between="%d %d"/></service>`, r.IntN(6), r.IntN(30), 30+r.IntN(30))
		q, err := index.Template([]byte(s))
		if err != nil {
			return nil, s, err
		}
		parts, text = append(parts, q), append(text, s)
	}
	return index.And(parts...), strings.Join(text, " & "), nil
}

// plans that cover some of what documents have.
func plan(r *rand.Rand) Plan {
	var all []Key
	for _, tag := range []string{"@kind", "@floor", "ppm", "where", "kind", "@room", "@v", "tag", "fast"} {
		for _, k := range []index.Kind{index.Present, index.Text, index.Numeric} {
			if r.IntN(2) == 0 {
				all = append(all, KeyOf(k, tag))
			}
		}
	}
	slices.Sort(all)
	p := Plan{Epoch: r.Uint64(), Pairs: all[:min(len(all), MaxPairs)]}
	if r.IntN(2) == 0 {
		p.Triples = p.Pairs[:min(len(p.Pairs), MaxTriples)]
	}
	return p
}

// TestNothingIsRuledOutThatIsThere: whatever the plan, a summary of documents lets a query through that one of them
// meets, as a parent has it after a journey.
func TestNothingIsRuledOutThatIsThere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	matched, pruned, asked := 0, 0, 0
	for range 60 * scale() {
		var c Counting
		var docs []*check.Document
		p := plan(r)
		for range 1 + r.IntN(8) {
			d, err := check.Parse([]byte(document(r)))
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, d)
			p.Terms(Describe("spiffe://t/user/ann", index.Pack(d)), c.Add)
		}
		m, err := Decode((&Message{Sequence: 1, Services: uint64(len(docs)), Plan: p, Terms: c.Len(), Check: c.Check(), Added: c.Set()}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		table, err := new(Table).Apply(m)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			q, text, err := query(r)
			if err != nil {
				t.Fatal(text, err)
			}
			by := []string{"", "spiffe://t/user/ann", "spiffe://t/user/bob"}[r.IntN(3)]
			ask := Ask(q.Needs(by))
			hit := slices.ContainsFunc(docs, func(d *check.Document) bool { ok, _ := q.Match(d); return ok && by != "spiffe://t/user/bob" })
			asked++
			switch {
			case hit && !table.May(ask):
				t.Fatalf("seed %d: %s by %q matches and is ruled out", seed, text, by)
			case hit:
				matched++
			case !table.May(ask):
				pruned++
			}
		}
	}
	t.Logf("PROVE %d queries: %d match, %d were ruled out, 0 wrongly (seed %d)", asked, matched, pruned, seed)
	if matched < asked/100 || pruned < asked/4 {
		t.Errorf("%d of %d match, %d were ruled out: the test tests little", matched, asked, pruned)
	}
}

// TestChangesFollow: a table that is told changes is the table of the whole, and what went is gone.
func TestChangesFollow(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var c Counting
	live := map[Term]int{}
	table := new(Table)
	for seq := uint64(1); seq < 200; seq++ {
		for range r.IntN(40) {
			x := Term(r.IntN(500))
			if r.IntN(2) == 0 {
				c.Add(x)
				live[x]++
			} else if live[x] > 0 {
				c.Remove(x)
				live[x]--
			}
		}
		m := &Message{Sequence: seq, Terms: c.Len(), Check: c.Check()}
		if seq%50 == 1 {
			m.Added = c.Set()
		} else {
			m.Change = true
			m.Added, m.Removed = c.Delta()
		}
		m, err := Decode(m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if table, err = table.Apply(m); err != nil {
			t.Fatal(err)
		}
		for x := range Term(500) {
			_, have := slices.BinarySearch(table.Set(), x)
			if have != (live[x] > 0) || have && !table.has(x) {
				t.Fatalf("term %d: in the set %v, alive %v", x, have, live[x] > 0)
			}
		}
	}
	if _, err := table.Apply(&Message{Change: true, Sequence: table.Sequence() + 2}); err == nil {
		t.Error("a change that skips one was taken")
	}
	if _, err := table.Apply(&Message{Change: true, Sequence: table.Sequence() + 1, Terms: 3}); err == nil {
		t.Error("a change that ends otherwise than it says was taken")
	}
}

// TestRangesCover: a number lies in a cover if and only if it lies in the range, up to the precision of 1/128.
func TestRangesCover(t *testing.T) {
	k := KeyOf(index.Numeric, "x")
	r := rand.New(rand.NewPCG(1, 2))
	value := func() float64 { return math.Ldexp(r.Float64()*2-1, r.IntN(80)-40) }
	for range 20_000 {
		from, to, v := value(), value(), value()
		if from > to {
			from, to = to, from
		}
		in := false
		for _, drop := range drops {
			in = in || slices.Contains(k.cover(from, to), k.node(drop, ordered(v)>>drop))
		}
		if v >= from && v <= to && !in {
			t.Fatalf("%g lies in [%g, %g] and in no range of its cover", v, from, to)
		}
	}
	for _, open := range [][2]float64{{math.Inf(-1), 5}, {5, math.Inf(1)}, {math.Inf(-1), math.Inf(1)}} {
		if n := len(k.cover(open[0], open[1])); n > 3*coverMost {
			t.Errorf("%v is covered with %d ranges", open, n)
		}
	}
}

// TestLiarsAreFlagged (threat 11): within one period, and charged no more than their allowance afterwards.
func TestLiarsAreFlagged(t *testing.T) {
	var l Ledger
	sent := 0
	for range 1000 {
		if l.Admit() {
			sent++
			l.Note(false, true)
		}
	}
	if l.Flag != Lying || sent > lyingLeast {
		t.Errorf("a child that never has anything is %q after %d queries", l.Flag, sent)
	}
	for range 5 {
		l.Period(&Table{known: true}, 0, time.Second)
		for range 1000 {
			if l.Admit() {
				sent++
				l.Note(false, true)
			}
		}
	}
	if sent > lyingLeast+5*Allowance {
		t.Errorf("%d queries went to a liar", sent)
	}
	for range 12 { // it has mended its ways
		l.Period(&Table{known: true}, 0, time.Second)
		for range Allowance {
			if l.Admit() {
				l.Note(true, true)
			}
		}
	}
	if l.Flag != "" {
		t.Errorf("an honest child stays %q", l.Flag)
	}
	if f := new(Ledger).Period(&Table{known: true, set: set{n: 3 * termsEach}, services: 1}, 0, time.Second); f != Overfull {
		t.Errorf("a set of %d terms for one service is %q", 3*termsEach, f)
	}
	if f := new(Ledger).Period(&Table{known: true}, 4*time.Second, time.Second); f != Stale {
		t.Errorf("a summary of four periods ago is %q", f)
	}
	if f := new(Ledger).Period(&Table{known: true, services: 5}, 0, time.Second); f != Hollow {
		t.Errorf("a summary that tells nothing of five services is %q", f)
	}
}

func TestPlannerAsksForTriplesWhenPairsAreFull(t *testing.T) {
	var d Demand
	var p Planner
	q := Ask(index.Need{All: []index.Need{
		{Kind: index.Text, Tag: "@a", Text: "1"}, {Kind: index.Text, Tag: "@b", Text: "2"}, {Kind: index.Text, Tag: "@c", Text: "3"},
	}})
	for range 10 {
		d.Note(q)
	}
	first, changed := p.Next(&d, 0.01)
	if !changed || len(first.Pairs) != 3 || len(first.Triples) != 0 {
		t.Fatalf("first plan %+v", first)
	}
	if _, changed := p.Next(&d, 0.01); changed {
		t.Error("nothing has changed, and there is another plan")
	}
	second, changed := p.Next(&d, 0.3)
	if !changed || len(second.Triples) != 3 || second.Epoch <= first.Epoch {
		t.Fatalf("second plan %+v", second)
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(2, 2))
	var c Counting
	d, _ := check.Parse([]byte(document(r)))
	p := plan(r)
	p.Terms(Describe("spiffe://t/user/ann", index.Pack(d)), c.Add)
	n, sum := c.Len(), c.Check()
	f.Add((&Message{Sequence: 1, Plan: p, Terms: n, Check: sum, Added: c.Set()}).Encode())
	f.Add((&Message{Sequence: 2, Change: true, Plan: p, Added: []Term{1, 2, 1 << 39}, Removed: []Term{7}}).Encode())
	f.Add((&Message{}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		if len(m.Added)+len(m.Removed) > 8*len(b) {
			t.Fatalf("%d terms out of %d bytes", len(m.Added)+len(m.Removed), len(b))
		}
		if !slices.IsSorted(m.Added) || !slices.IsSorted(m.Removed) {
			t.Fatal("terms out of order")
		}
		again, err := Decode(m.Encode())
		if err != nil || !slices.Equal(again.Added, m.Added) || !slices.Equal(again.Removed, m.Removed) {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
		_, _ = new(Table).Apply(m)
	})
}
