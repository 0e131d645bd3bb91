package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/operators"
)

// BenchmarkSetUp is the control of one node's part of a path, from opening its stream to its tear-down, against as many
// empty calls over the same connection. Read the ratio.
func BenchmarkSetUp(b *testing.B) {
	s := newScene(b)
	n := s.host("a", nil)
	d := s.dialer(s.creator)
	ctx := b.Context()
	b.Run("path", func(b *testing.B) {
		for i := range b.N {
			session, err := d.Open(ctx, n.address, n.id)
			must(b, err)
			_, err = session.Prepare(ctx, talker(fmt.Sprint("p", i), 1))
			must(b, err)
			must(b, session.Connect(ctx, nil))
			must(b, session.Start(ctx))
			must(b, session.Close(ctx))
		}
	})
	b.Run("empty", func(b *testing.B) {
		conn, err := d.conn(target{n.address, n.id})
		must(b, err)
		client := grpc_health_v1.NewHealthClient(conn)
		for range b.N {
			for range 5 {
				_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
				must(b, err)
			}
		}
	})
}

// BenchmarkStage is the way of one ADU through stages in one process, as a host runs them and with nothing but their
// goroutines and hops. Read the ratio.
func BenchmarkStage(b *testing.B) {
	for _, stages := range []int{1, 3} {
		b.Run(fmt.Sprint(stages, "-hosted"), func(b *testing.B) { benchmarkStages(b, stages) })
		b.Run(fmt.Sprint(stages, "-bare"), func(b *testing.B) { benchmarkBare(b, stages) })
	}
}

func benchmarkStages(b *testing.B, stages int) {
	s := newScene(b)
	done := make(chan struct{})
	n := s.host("a", func(c *Config) { addPump(c.Registry, b.N, done) })
	session := s.open(n)
	a := Assignment{Path: "p", Epoch: 1, Stages: []Stage{step("pump", "pump", nil, within("0"))}}
	for i := range stages {
		a.Stages = append(a.Stages, step(fmt.Sprint("s", i), "through", within(fmt.Sprint(i)), within(fmt.Sprint(i+1))))
	}
	a.Stages = append(a.Stages, step("drain", "drain", within(fmt.Sprint(stages)), nil))
	_, err := session.Prepare(context.Background(), a)
	must(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	must(b, session.Start(context.Background()))
	<-done
}

func benchmarkBare(b *testing.B, stages int) {
	done := make(chan struct{})
	var r operators.Registry
	addPump(&r, b.N, done)
	b.ReportAllocs()
	b.ResetTimer()
	var in connectors.Reader
	for i := range stages + 2 {
		program := "through"
		var out connectors.Writer
		var next connectors.Reader
		switch i {
		case 0:
			program = "pump"
		case stages + 1:
			program = "drain"
		}
		if i <= stages {
			out, next = mem.Pair(memDepth)
		}
		op, err := r.Make(b.Context(), program, operators.Env{})
		must(b, err)
		go func(in connectors.Reader) {
			if err := op.Run(context.Background(), in, out); err != nil {
				b.Error(err)
			}
			if out != nil {
				out.Close()
			}
		}(in)
		in = next
	}
	<-done
}

// addPump adds a source of n empty ADUs, an operator that passes them on, and a sink that tells when they are through.
func addPump(r *operators.Registry, n int, done chan<- struct{}) {
	add := func(key string, run operators.Func) {
		r.Add(key, func(context.Context, operators.Env) (operators.Operator, error) { return run, nil })
	}
	add("pump", func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
		for range n {
			if err := out.Write(ctx, connectors.ADU{}); err != nil {
				return err
			}
		}
		return nil
	})
	add("through", func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
		return operators.Each(func(a connectors.ADU) (connectors.ADU, error) { return a, nil }).Run(ctx, in, out)
	})
	add("drain", func(ctx context.Context, in connectors.Reader, _ connectors.Writer) error {
		defer close(done)
		for {
			if _, err := in.Read(ctx); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}
