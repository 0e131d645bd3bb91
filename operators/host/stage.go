package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
	"ninja/operators/host/hostpb"
)

// stage is one operator of a path with its two hops.
type stage struct {
	spec    Stage
	log     *slog.Logger
	op      operators.Operator
	meter   *meter
	inbound *inbound      // of a hop from another node
	accept  time.Duration // how long run waits for the sender
	free    sync.Once

	// Guarded by the path's mu, because measurements read them while the path is set up.
	state State
	in    *reader
	out   *writer
}

// inbound is the receiving end of a hop from another node, until its sender comes.
type inbound struct {
	pending connectors.Pending
	cancel  context.CancelFunc
	ready   chan struct{} // closed when reader or err is set
	reader  connectors.Reader
	err     error
}

// wait begins to wait for the sender. It does so from Prepare on, so that dialling never waits for Start.
func (i *inbound) wait() {
	ctx, cancel := context.WithCancel(context.Background()) // until release
	i.cancel = cancel
	i.ready = make(chan struct{})
	go func() {
		defer close(i.ready)
		i.reader, i.err = i.pending.Accept(ctx)
	}()
}

// fault says what went wrong with a stage; hop is empty when it is the stage's own.
type fault struct {
	hop       string
	neighbour ca.ID
	err       error
}

func (f *fault) report(stage string) *hostpb.Report {
	return &hostpb.Report{
		Kind: hostpb.Report_FAULT, Stage: stage, Hop: f.hop, Neighbour: string(f.neighbour), Text: clip(f.err.Error(), maxText),
	}
}

// run runs the stage to its end, tells its neighbours and lets go of everything. It returns nil for a normal end and
// when ctx has ended.
func (s *stage) run(ctx context.Context) *fault {
	f := s.operate(ctx)
	if ctx.Err() != nil {
		f = nil // torn down
	}
	if f != nil && s.in != nil && s.in.inner != nil {
		_ = s.in.Signal(connectors.Event{Kind: connectors.Fault, Text: clip(s.spec.ID+": "+f.err.Error(), maxText)})
	}
	if f == nil {
		s.release(nil)
	} else {
		s.release(f.err)
	}
	return f
}

// operate waits for the sender, brings events upstream and runs the operator.
func (s *stage) operate(ctx context.Context) *fault {
	if s.inbound != nil {
		if err := s.inbound.await(ctx, s.accept); err != nil {
			return &fault{s.spec.In.Hop, s.spec.In.Peer, err}
		}
		s.in.join(s.inbound.reader)
	}
	// An interface that holds a nil pointer is not nil: the operator must see that an end is absent.
	var in connectors.Reader
	var out connectors.Writer
	if s.in != nil {
		in = s.in
	}
	if s.out != nil {
		out = s.out
		go s.out.forward(in)
	}
	err := s.guard(func() error { return s.op.Run(ctx, in, out) })
	if err == nil {
		return nil
	}
	return s.blame(err)
}

// blame finds out whose fault an operator's error is. The operator may have worded it anew, so what counts is whether
// one of its hops had broken.
func (s *stage) blame(err error) *fault {
	if s.in != nil && s.in.broke.Load() != nil {
		return &fault{s.spec.In.Hop, s.spec.In.Peer, err}
	}
	if s.out != nil && s.out.broke.Load() != nil {
		return &fault{s.spec.Out.Hop, s.spec.Out.Peer, err}
	}
	return &fault{err: err}
}

// guard makes a panic of an operator an error of its stage. A panic in a goroutine that the operator itself started
// cannot be caught by anyone else.
func (s *stage) guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("operator panicked", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("program %q panicked: %v", s.spec.Program, v)
		}
	}()
	return f()
}

// await waits for the sender, at most for the given time.
func (i *inbound) await(ctx context.Context, limit time.Duration) error {
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-i.ready:
		return i.err
	case <-late.C:
		return fmt.Errorf("no sender came within %v", limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release closes the stage's hops and its operator. A stage that failed breaks its outgoing hop: the stage below must not
// take half a stream for a whole one. It may be called again.
func (s *stage) release(failed error) {
	s.free.Do(func() {
		if s.inbound != nil {
			s.inbound.cancel()
			s.inbound.pending.Close()
			<-s.inbound.ready
			if s.inbound.reader != nil {
				s.inbound.reader.Close()
			}
		} else if s.in != nil && s.in.inner != nil {
			s.in.inner.Close()
		}
		if s.out != nil {
			if a, ok := s.out.inner.(connectors.Aborter); ok && failed != nil {
				a.Abort(failed)
			} else if err := s.out.inner.Close(); err != nil && !errors.Is(err, connectors.ErrClosed) {
				s.log.Debug("end of stream not delivered", "hop", s.spec.Out.Hop, "err", err)
			}
		}
		closeOperator(s.op)
	})
}

// closeOperator lets an operator go that holds something beyond its Run, such as a child process.
func closeOperator(op operators.Operator) {
	if c, ok := op.(io.Closer); ok {
		c.Close()
	}
}

// stats needs the path's mu.
func (s *stage) stats() StageStats {
	st := StageStats{ID: s.spec.ID, State: s.state, CPU: max(s.spec.CPU, s.meter.working())}
	if s.in != nil {
		st.In = s.in.stats()
	}
	if s.out != nil {
		st.Out = s.out.stats()
	}
	st.Process, st.ProcessP99 = s.meter.process()
	st.Age, st.AgeP99 = s.meter.age()
	return st
}
