package plan

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("ZN"))
	m, _ := strconv.Atoi(os.Getenv("ZM"))
	for seed := range uint64(benchWorlds) {
		parts := bigWorld(n, m, seed+1)
		c, err := NewCatalogue(parts)
		if err != nil {
			t.Fatal(err)
		}
		c.prepare()
		for i, q := range bigRequests(parts, seed) {
			run := func(name string, q Request) *Plan {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				chill(c)
				s := time.Now()
				p, err := c.Plan(ctx, q)
				d := time.Since(s)
				if err != nil {
					t.Logf("seed %d req %d %s: %v %v", seed, i, name, d, err)
					return nil
				}
				t.Logf("seed %d req %d %s: %v chains %d steps %d cost %.4f bound %.4f lat %v cpu %.3f mem %d", seed, i, name, d, p.Examined, len(p.Steps), p.Cost, p.Bound, p.Latency, p.CPU, p.Memory)
				return p
			}
			b := run("none", q)
			if b == nil {
				continue
			}
			l := run("minlat", minimal(q, resLatency))
			if l != nil {
				z := q
				z.Bounds.Latency = (b.Latency + l.Latency) / 2
				run("latency", z)
			}
			l = run("mincpu", minimal(q, resCPU))
			if l != nil {
				z := q
				z.Bounds.CPU = (b.CPU + l.CPU) / 2
				if y := run("cpu", z); y != nil {
					l = run("minmem", minimal(z, resMemory))
					if l != nil {
						z.Bounds.Memory = (y.Memory + l.Memory) / 2
						run("cpumem", z)
					}
				}
			}
		}
	}
}
