package summary

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"ninja/sds/index"
)

// sample is a service of a skewed catalogue, as facts.
func sample(r *rand.Rand) Facts {
	var told []index.Fact
	say := func(tag, value string) {
		told = append(told, index.Fact{Tag: tag, Kind: index.Present}, index.Fact{Tag: tag, Kind: index.Text, Text: value})
	}
	say("@kind", strconv.Itoa(r.IntN(40)))
	say("@maker", strconv.Itoa(r.IntN(150)))
	say("@floor", strconv.Itoa(r.IntN(20)))
	say("@name", strconv.FormatUint(r.Uint64(), 36))
	told = append(told, index.Fact{Tag: "speed", Kind: index.Numeric, Number: 100 * r.Float64()})
	return Make(told)
}

// sampleNeeds are conditions on kind, maker, floor, name and speed.
func sampleNeeds(r *rand.Rand) []index.Need {
	from := 100 * r.Float64()
	return []index.Need{
		{Kind: index.Text, Tag: "@kind", Text: strconv.Itoa(r.IntN(40))},
		{Kind: index.Text, Tag: "@maker", Text: strconv.Itoa(r.IntN(150))},
		{Kind: index.Text, Tag: "@floor", Text: strconv.Itoa(r.IntN(20))},
		{Kind: index.Text, Tag: "@name", Text: strconv.FormatUint(r.Uint64(), 36)},
		{Kind: index.Numeric, Tag: "speed", From: from, To: 1.3 * from},
	}
}

// samplePlan tells what the samples are asked for.
func samplePlan() Plan {
	keys := []Key{KeyOf(index.Text, "@kind"), KeyOf(index.Text, "@maker"), KeyOf(index.Text, "@floor"), KeyOf(index.Numeric, "speed")}
	slices.Sort(keys)
	return Plan{Epoch: 1, Pairs: keys, Triples: keys}
}

// branches are the tables of a parent whose children have so many services each.
func branches(b *testing.B, children, services int) (tables []*Table) {
	r := rand.New(rand.NewPCG(1, 1))
	p := samplePlan()
	for range children {
		var c Counting
		for range services {
			p.Terms(sample(r), c.Add)
		}
		n, sum := c.Len(), c.Check()
		t, err := new(Table).Apply(&Message{Sequence: 1, Services: uint64(services), Plan: p, Terms: n, Check: sum, Added: c.Set()})
		if err != nil {
			b.Fatal(err)
		}
		tables = append(tables, t)
	}
	return tables
}

// BenchmarkMay is what a parent of 32 children pays a question to know which of them it goes to. The floor is one search
// in each child's sorted set.
func BenchmarkMay(b *testing.B) {
	for _, services := range []int{1000, 10_000} {
		tables := branches(b, 32, services)
		sets := make([][]Term, len(tables))
		for i, t := range tables {
			sets[i] = t.Set()
		}
		r := rand.New(rand.NewPCG(2, 2))
		for what, needs := range map[string]func(all []index.Need) []index.Need{
			"one":   func(all []index.Need) []index.Need { return all[3:4] },
			"three": func(all []index.Need) []index.Need { return all[:3] },
			"range": func(all []index.Need) []index.Need { return []index.Need{all[0], all[1], all[4]} },
		} {
			b.Run(fmt.Sprintf("services=%d/%s", services, what), func(b *testing.B) {
				begun, sink := time.Now(), 0
				for range 1000 {
					for _, s := range sets {
						at, _ := slices.BinarySearch(s, Term(r.Uint64()&termMask))
						sink += at
					}
				}
				floor := float64(time.Since(begun)) / 1000
				passed, asked := 0, 0
				questions := make([]index.Need, 4096)
				for i := range questions {
					questions[i] = index.Need{All: needs(sampleNeeds(r))}
				}
				b.ReportAllocs()
				for b.Loop() {
					q := Ask(questions[asked%len(questions)])
					asked++
					for _, t := range tables {
						if t.May(q) {
							passed++
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/floor, "x-search")
				b.ReportMetric(float64(passed)/float64(asked), "children/question")
				_ = sink
			})
		}
	}
}

// BenchmarkDelta is what a parent of 32 children with 10,000 services each pays for the change of 20 services (0.2 %) of
// one of them: to read it, make the child's next table, count it into the union, and write what the union's parent is
// told. core-% is the share of a core when every child sends such a change every second. The floor is to copy what the
// change says into a map and out of it, which nobody who counts terms can do without.
func BenchmarkDelta(b *testing.B) {
	const children, services, changing = 32, 10_000, 20
	r := rand.New(rand.NewPCG(4, 4))
	p := samplePlan()
	var child, union Counting
	var there []Facts
	for i := range children * services {
		f := sample(r)
		p.Terms(f, union.Add)
		if i < services {
			p.Terms(f, child.Add)
			there = append(there, f)
		}
	}
	union.Set()
	table := tableOf(b, &child, p)
	messages := make([][]byte, 64)
	for i := range messages {
		for range changing {
			k, f := r.IntN(len(there)), sample(r)
			p.Terms(there[k], child.Remove)
			p.Terms(f, child.Add)
			there[k] = f
		}
		m := &Message{Sequence: uint64(i + 2), Change: true, Services: services, Plan: p, Terms: child.Len(), Check: child.Check()}
		m.Added, m.Removed = child.Delta()
		messages[i] = m.Encode()
	}
	var floor time.Duration
	terms, begin := 0, table
	counted := make(map[Term]uint32)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		m, err := Decode(messages[i%len(messages)])
		if err != nil {
			b.Fatal(err)
		}
		if i%len(messages) == 0 {
			table = begin // what was told is told again
		}
		if table, err = table.Apply(m); err != nil {
			b.Fatal(err)
		}
		for _, t := range m.Added {
			union.Add(t)
		}
		for _, t := range m.Removed {
			union.Remove(t)
		}
		up := &Message{Sequence: uint64(i), Change: true, Plan: p, Terms: union.Len(), Check: union.Check()}
		up.Added, up.Removed = union.Delta()
		up.Encode()
		b.StopTimer()
		terms += len(m.Added) + len(m.Removed)
		begun := time.Now()
		for _, t := range m.Added {
			counted[t]++
		}
		for _, t := range m.Removed {
			delete(counted, t)
		}
		floor += time.Since(begun)
		b.StartTimer()
	}
	each := float64(b.Elapsed()) / float64(b.N)
	b.ReportMetric(float64(b.Elapsed())/float64(floor), "x-map")
	b.ReportMetric(float64(terms)/float64(b.N), "terms/op")
	b.ReportMetric(100*children*each/float64(time.Second), "core-%")
}
