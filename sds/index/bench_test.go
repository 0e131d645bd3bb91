package index

import (
	"fmt"
	"runtime"
	"testing"

	"ninja/sds/check"
)

// catalogue indexes n documents of about 9 attributes and 300 bytes, in batches as a server makes them.
func catalogue(b *testing.B, n int) *Class {
	b.Helper()
	c := &Class{}
	for i := 0; i < n; {
		e := c.Edit()
		for range min(1000, n-i) {
			tree, err := check.Parse(fmt.Appendf(nil, `<service xmlns="urn:ninja:service:1" kind="kind%d" name="s%d"><summary>Service number %d of the catalogue</summary><floor>%d</floor><building city="c%d" street="st%d"/><node control="10.0.%d.%d:7000" cores="%d" memory="%d"/></service>`,
				i%20, i, i, i%50, i%10, i%(n/10+1), i>>8&255, i&255, i%16, i%7))
			if err != nil {
				b.Fatal(err)
			}
			e.Add(&Doc{ID: fmt.Sprint("spiffe://test/base/b#s", i), Owner: "o", Tree: Pack(tree)})
			i++
		}
		c = e.Done()
	}
	return c
}

// BenchmarkIndexQuery finds about ten of n documents by three terms, a range, an XPath.
func BenchmarkIndexQuery(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := catalogue(b, n)
		runtime.GC()
		runtime.ReadMemStats(&after)
		ask := func(name string, compile func() (*Query, error)) {
			b.Run(fmt.Sprintf("%s/services=%d", name, n), func(b *testing.B) {
				q, err := compile()
				if err != nil {
					b.Fatal(err)
				}
				found := 0
				for b.Loop() {
					fuel := Fuel
					effort, err := c.Search(q, "", &fuel, func(*Doc) bool { return true })
					if err != nil {
						b.Fatal(err)
					}
					found = effort.Found
				}
				b.ReportMetric(float64(found), "found")
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "bytes/service")
			})
		}
		ask("template", func() (*Query, error) {
			return Template([]byte(`<service kind="kind7"><floor>7</floor><building street="st7"/></service>`))
		})
		ask("range", func() (*Query, error) {
			return Template([]byte(`<service xmlns:q="urn:ninja:query:1" kind="kind7"><floor q:between="6 8"/><building street="st7"/></service>`))
		})
		ask("xpath", func() (*Query, error) {
			return XPath(`/service[@kind='kind7'][floor = 7 and .//@street='st7']`, nil)
		})
		runtime.KeepAlive(c)
	}
}
