package host

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// carried is talker with both stages carried from the epoch before.
func carried(epoch uint32) Assignment {
	a := talker("p", epoch)
	a.Beside, a.Drain = epoch > 1, time.Second
	for i := range a.Stages {
		a.Stages[i].Carry = a.Stages[i].ID
	}
	return a
}

// countMade counts the operators that a host makes of the program "talk".
func countMade(c *Config, n *atomic.Int32) {
	c.Registry.Add("counted", func(ctx context.Context, env operators.Env) (operators.Operator, error) {
		n.Add(1)
		return c.Registry.Make(ctx, "talk", env)
	})
}

func (s *scene) more(n int) {
	s.t.Helper()
	for len(s.sunk) > 0 {
		<-s.sunk
	}
	for range n {
		select {
		case <-s.sunk:
		case <-time.After(5 * time.Second):
			s.t.Fatal("nothing flows")
		}
	}
}

// What an epoch has taken over is its own: a newer epoch that is never started takes nothing, the older epoch is gone at
// once when nothing of it is left, and the lease of the newer one ends what it has taken over.
func TestCarriedStagesBelongToTheirEpoch(t *testing.T) {
	s := newScene(t)
	var instances atomic.Int32
	n := s.host("a", func(c *Config) { countMade(c, &instances) })
	ctx := t.Context()
	epoch := func(number uint32, change func(*Assignment)) *Session {
		a := carried(number)
		a.Stages[0].Program = "counted"
		if change != nil {
			change(&a)
		}
		session := s.open(n)
		_, err := session.Prepare(ctx, a)
		must(t, err)
		return session
	}
	first := epoch(1, nil)
	must(t, first.Start(ctx))
	s.more(5)
	dropped := epoch(2, nil)
	must(t, dropped.Close(ctx))
	s.more(5)
	second := epoch(3, nil)
	must(t, second.Start(ctx))
	s.more(5)
	if infos := n.Paths(); len(infos) != 1 || infos[0].Epoch != 3 || infos[0].Stages[1].In.ADUs < 10 {
		t.Fatalf("paths %+v", infos)
	}
	if err := first.Renew(ctx, time.Minute); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrFenced) {
		t.Fatalf("renewed an epoch that is gone: %v", err)
	}
	if instances.Load() != 1 {
		t.Fatalf("%d instances were made of one", instances.Load())
	}
	third := epoch(4, func(a *Assignment) { a.Stages[0].Args = map[string]string{"other": "arguments"} })
	must(t, third.Start(ctx))
	s.more(5)
	if instances.Load() != 2 {
		t.Fatalf("%d instances, though one has other arguments", instances.Load())
	}
	last := epoch(5, func(a *Assignment) {
		a.Lease, a.Stages[0].Args = 200*time.Millisecond, map[string]string{"other": "arguments"}
	})
	must(t, last.Start(ctx))
	for begun := time.Now(); len(n.Paths()) > 0; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 5*time.Second {
			t.Fatalf("the lease has lapsed and there is %+v", n.Paths())
		}
	}
	if instances.Load() != 2 {
		t.Fatalf("%d instances", instances.Load())
	}
}

// An end that comes while a newer epoch is prepared is not the last word, but is it when the newer one is dropped.
func TestAnEndBesideAnEpochThatIsDropped(t *testing.T) {
	s := newScene(t)
	end := make(chan struct{})
	n := s.host("a", func(c *Config) {
		c.Registry.Add("ends", func(context.Context, operators.Env) (operators.Operator, error) {
			return operators.Func(func(ctx context.Context, _ connectors.Reader, out connectors.Writer) error {
				err := out.Write(ctx, connectors.ADU{Payload: []byte("x")})
				<-end
				return err
			}), nil
		})
	})
	ctx := t.Context()
	prepare := func(epoch uint32) *Session {
		a := carried(epoch)
		a.Stages[0].Program = "ends"
		session := s.open(n)
		_, err := session.Prepare(ctx, a)
		must(t, err)
		return session
	}
	first := prepare(1)
	must(t, first.Start(ctx))
	<-s.sunk
	dropped := prepare(2)
	close(end)
	beat := until(t, first, Heartbeat)
	for beat.Stages[0].State != Stopped {
		beat = until(t, first, Heartbeat)
	}
	if beat.Stages[1].State != Running {
		t.Fatalf("stages %+v", beat.Stages)
	}
	must(t, dropped.Close(ctx))
	until(t, first, Ended)
	must(t, first.Close(ctx))
}

// A stage of the older epoch that is not carried brings what it holds before it ends, and one that does not end is ended.
func TestDrains(t *testing.T) {
	s := newScene(t)
	n := s.host("a", func(c *Config) {
		c.Registry.Add("holds", func(context.Context, operators.Env) (operators.Operator, error) {
			return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
				for {
					if _, err := in.Read(ctx); err != nil {
						break // its last words come after its stream has ended
					}
				}
				if err := out.Write(ctx, connectors.ADU{Payload: []byte("last words")}); err != nil {
					return err
				}
				<-ctx.Done()
				return ctx.Err()
			}), nil
		})
	})
	ctx := t.Context()
	run := func(epoch uint32, middle string) {
		session := s.open(n)
		a := Assignment{Path: "p", Epoch: epoch, Beside: epoch > 1, Drain: 300 * time.Millisecond, Stages: []Stage{
			step("talk", "talk", nil, within("1")), step(middle, middle, within("1"), within("2")), step("sink", "sink", within("2"), nil),
		}}
		a.Stages[0].Carry, a.Stages[2].Carry = "talk", "sink"
		_, err := session.Prepare(ctx, a)
		must(t, err)
		must(t, session.Start(ctx))
	}
	run(1, "holds")
	begun := time.Now()
	run(2, "pass")
	if paths := n.Paths(); len(paths) != 2 {
		t.Fatalf("there are %+v", paths)
	}
	if got := <-s.sunk; got != "last words" {
		t.Fatalf("got %q", got)
	}
	if got := <-s.sunk; got != "x" {
		t.Fatalf("got %q", got)
	}
	for len(n.Paths()) > 1 {
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(begun); took < 300*time.Millisecond || took > 3*time.Second {
		t.Fatalf("the older epoch took %v to be ended", took)
	}
	s.more(5)
}
