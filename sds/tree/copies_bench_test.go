package tree

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"ninja/ca"
	"ninja/sds/announce"
)

// kin are a server and those that it has spawned, kept alike.
type kin struct {
	all    []*plant
	owners []ca.Peer
	signs  []*ca.Identity
}

// newKin makes a family of a size.
func newKin(b *testing.B, size int) *kin {
	w := newWood(b)
	k := &kin{all: []*plant{w.grow("root")}}
	ctx, cancel := context.WithCancel(context.Background())
	var sharing sync.WaitGroup
	b.Cleanup(func() { cancel(); sharing.Wait() })
	for i := range size - 1 {
		p := &planted{plant: &plant{wood: w, id: w.identity(ca.KindSDS, fmt.Sprint("root-", i+1)), address: "127.0.0.1:0"}, ended: make(chan struct{})}
		p.start(func(c *Config) { c.Spawned = k.all[0].id.ID() })
		b.Cleanup(p.Stop)
		s := &sapling{id: p.id.ID(), spawned: p, copied: make(chan struct{})}
		sharing.Go(func() { k.all[0].node.share(ctx, s, p, time.Minute) })
		<-s.copied
		k.all = append(k.all, p.plant)
	}
	for i := range 40 {
		id := w.identity(ca.KindUnit, fmt.Sprint("u", i))
		peer, err := k.all[0].id.Verify(id.Chain())
		if err != nil {
			b.Fatal(err)
		}
		k.owners, k.signs = append(k.owners, peer), append(k.signs, id)
	}
	return k
}

// bodies are n services of the owners in turn.
func (k *kin) bodies(n int) []announce.Body {
	out := make([]announce.Body, n)
	for i := range out {
		out[i] = announce.Sign(k.signs[i%len(k.signs)], fmt.Sprint("s", i), 1, []byte(printer(fmt.Sprint("kind", i%50), i)))
	}
	return out
}

// hear has every member hear its part of the bodies, each as what its owner announces is: the signature is checked.
func (k *kin) hear(b *testing.B, bodies []announce.Body) {
	k.each(func(at int, p *plant) {
		for i := at; i < len(bodies); i += len(k.all) {
			if err := bodies[i].VerifyBy(k.owners[i%len(k.owners)]); err != nil {
				b.Error(err)
			}
			if err := p.server.Put(bodies[i]); err != nil {
				b.Error(err)
			}
		}
	})
}

// each has every member do its part.
func (k *kin) each(f func(at int, p *plant)) {
	var all sync.WaitGroup
	for at, p := range k.all {
		all.Go(func() { f(at, p) })
	}
	all.Wait()
}

// alike waits until all have so many services.
func (k *kin) alike(b *testing.B, services int) {
	for _, p := range k.all {
		eventually(b, "all have all", func() bool { return p.server.Load() == services })
	}
}

// BenchmarkFamily is what a server carries that has one, two or four in its family: new services, and refreshes of known
// ones, by CPU time a server and change of the whole family, against the same server alone. Alone it hears all of them
// itself; in a family of n it hears one in n and is told of the others.
func BenchmarkFamily(b *testing.B) {
	alone := make(map[string]float64)
	for _, size := range []int{1, 2, 4} {
		measure := func(b *testing.B, what string, f func() (looking time.Duration)) {
			b.ResetTimer()
			begun := cpuTime()
			looking := f()
			each := float64(cpuTime()-begun-looking) / float64(b.N) / float64(size)
			if size == 1 {
				alone[what] = each
			}
			b.ReportMetric(each/1e3, "cpu-us/change")
			b.ReportMetric(1e9/each, "changes/cpu-s")
			b.ReportMetric(each/alone[what], "x-alone")
		}
		b.Run(fmt.Sprint("new/", size), func(b *testing.B) {
			k := newKin(b, size)
			bodies := k.bodies(b.N)
			measure(b, "new", func() time.Duration { k.hear(b, bodies); k.alike(b, b.N); return 0 })
		})
		b.Run(fmt.Sprint("refresh/", size), func(b *testing.B) {
			const services = 4000
			k := newKin(b, size)
			bodies := k.bodies(services)
			k.hear(b, bodies)
			k.alike(b, services)
			version, each := uint64(1), len(bodies)/len(k.owners)
			measure(b, "refresh", func() (looking time.Duration) {
				for done := 0; done < b.N; done += services { // a period
					version++
					k.each(func(at int, p *plant) {
						for o := at; o < len(k.owners); o += len(k.all) {
							pairs := make([]announce.Pair, 0, each)
							for i := o; i < len(bodies); i += len(k.owners) {
								pairs = append(pairs, announce.Pair{Name: bodies[i].Name, Version: 1, Numbers: map[string]float64{"load": float64(version)}})
							}
							p.server.Refresh(k.owners[o].ID, time.Minute, pairs)
						}
					})
					looking += k.told(b, version)
				}
				return looking
			})
		})
	}
}

// told waits until all have been told of the numbers of a round. The looking is not counted.
func (k *kin) told(b *testing.B, version uint64) (looking time.Duration) {
	for _, p := range k.all {
		for told := false; !told; {
			time.Sleep(50 * time.Millisecond) // by then it is quiet, so that what looking costs can be told from the rest
			begun := cpuTime()
			told = true
			for _, x := range p.server.Bodies(func(ca.ID) bool { return true }) {
				told = told && x.Numbers["load"] == float64(version)
			}
			looking += cpuTime() - begun
		}
	}
	return looking
}
