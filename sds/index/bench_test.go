package index

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"ninja/sds/check"
)

// catalogue indexes n documents of about 9 attributes and 300 bytes, in batches as a server makes them. Forty stand in
// one street, and ten of these are of one kind on one floor. It returns also how long the documents are.
func catalogue(b *testing.B, n int) (*Class, int) {
	b.Helper()
	c, size := &Class{}, 0
	for i := 0; i < n; {
		e := c.Edit()
		for range min(1000, n-i) {
			street := i / 40
			d := fmt.Appendf(nil, `<service xmlns="urn:ninja:service:1" kind="kind%d" name="s%d"><summary>Service number %d of the catalogue</summary><floor>%d</floor><building city="c%d" street="st%d"/><node control="10.0.%d.%d:7000" cores="%d" memory="%d"/></service>`,
				street%20, i, i, i%4+street%12*4, i%10, street, i>>8&255, i&255, i%16, i%7)
			tree, err := check.Parse(d)
			if err != nil {
				b.Fatal(err)
			}
			e.Add(&Doc{ID: fmt.Sprint("spiffe://test/base/b#s", i), Owner: "spiffe://test/base/b", Tree: Pack(tree)})
			size += len(d)
			i++
		}
		c = e.Done()
	}
	return c, size
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkIndexQuery finds ten of n documents by three terms, by a range, by an XPath. x-1000 is the CPU against a
// thousand documents; bytes/service is what the class takes beside the documents' own bytes.
func BenchmarkIndexQuery(b *testing.B) {
	least := map[string]float64{}
	for _, n := range []int{1000, 10_000, 100_000, 1_000_000} {
		before := heap()
		c, size := catalogue(b, n)
		taken := float64(heap()-before-uint64(size)) / float64(n)
		ask := func(name string, compile func() (*Query, error)) {
			b.Run(fmt.Sprintf("%s/services=%d", name, n), func(b *testing.B) {
				q, err := compile()
				if err != nil {
					b.Fatal(err)
				}
				found := 0
				busy := cpu()
				for range b.N {
					fuel := Fuel
					effort, err := c.Search(q, "", &fuel, func(*Doc) bool { return true })
					if err != nil {
						b.Fatal(err)
					}
					found = effort.Found
				}
				used := float64(cpu()-busy) / float64(b.N)
				if n == 1000 {
					least[name] = used
				}
				b.ReportMetric(used, "cpu-ns/op")
				b.ReportMetric(used/least[name], "x-1000")
				b.ReportMetric(float64(found), "found")
				b.ReportMetric(taken, "bytes/service")
			})
		}
		ask("template", func() (*Query, error) {
			return Template([]byte(`<service kind="kind7"><floor>29</floor><building street="st7"/></service>`))
		})
		ask("range", func() (*Query, error) {
			return Template([]byte(`<service xmlns:q="urn:ninja:query:1" kind="kind7"><floor q:between="28.5 29.5"/><building street="st7"/></service>`))
		})
		ask("xpath", func() (*Query, error) {
			return XPath(`/service[@kind='kind7'][floor = 29 and .//@street='st7']`, nil)
		})
		runtime.KeepAlive(c)
	}
}
