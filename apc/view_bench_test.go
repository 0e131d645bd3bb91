package apc

import (
	"fmt"
	"testing"
	"time"

	"ninja/ca"
	"ninja/operators"
	"ninja/sds"
)

// benchView is a view of n proxies with ten operators each, of a hundred different ones.
func benchView(n int) *view {
	v := newView(nil)
	for i := range n {
		id := ca.ID(fmt.Sprint(dom, "proxy/p", i))
		put := func(version uint64, d operators.Description) {
			d.Node = &operators.Node{Control: "c", Cores: 4}
			v.put(&thing{sds.Found{ID: string(id) + "#" + d.Name, Owner: id, Version: version, Numbers: map[string]float64{"load": 0.1}}, &d})
		}
		put(1, operators.Description{Kind: operators.KindProxy, Name: "p"})
		for j := range 10 {
			k := (i*10 + j) % 100
			s := spec(fmt.Sprint("x", k), fmt.Sprint("text/t", k), fmt.Sprint("text/t", k+1))
			put(1, operators.Description{Kind: operators.KindOperator, Name: "operator." + s.Name, Operators: []operators.Spec{s}})
		}
	}
	return v
}

// BenchmarkCatalogue measures what a change of a view costs: of a node's load, of one operator, and all anew.
func BenchmarkCatalogue(b *testing.B) {
	for _, n := range []int{100, 1000} {
		v := benchView(n)
		if _, err := v.catalogue(nil); err != nil {
			b.Fatal(err)
		}
		for _, bench := range []struct {
			name   string
			change func(i int)
		}{
			{"none", func(int) {}},
			{"load", func(i int) {
				v.numbers(fmt.Sprint(dom, "proxy/p", i%n, "#p"), map[string]float64{"load": 0.3 + 0.3*float64(i%2)})
			}},
			{"operator", func(i int) {
				id := ca.ID(fmt.Sprint(dom, "proxy/p", i%n))
				s := spec(fmt.Sprint("y", i%2), "text/t0", "text/t1")
				v.put(&thing{sds.Found{ID: string(id) + "#new", Owner: id, Version: uint64(i)}, &operators.Description{
					Kind: operators.KindOperator, Name: "new", Node: &operators.Node{}, Operators: []operators.Spec{s}}})
			}},
			{"anew", func(int) { clear(v.shelf) }},
		} {
			b.Run(fmt.Sprintf("proxies=%d/change=%s", n, bench.name), func(b *testing.B) {
				var took time.Duration
				i := 0
				for b.Loop() {
					bench.change(i)
					begun := time.Now()
					if _, err := v.catalogue(nil); err != nil {
						b.Fatal(err)
					}
					took += time.Since(begun)
					i++
				}
				b.ReportMetric(float64(took.Microseconds())/float64(b.N), "catalogue-us")
			})
		}
	}
}
