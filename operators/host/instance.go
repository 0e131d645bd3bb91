package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime/debug"
	"sync/atomic"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// instance is an operator that was made, with its two ends. It has a life of its own: it may go on as a stage of a newer
// epoch of its path when that of the older one is gone.
type instance struct {
	spec   Stage // what it was made as
	log    *slog.Logger
	op     operators.Operator
	meter  *meter
	accept time.Duration // how long run waits for the sender
	in     *reader       // nil for a source
	out    *writer       // nil for a sink
	life   context.Context
	leave  context.CancelCauseFunc // ends its life
	at     atomic.Pointer[stage]   // the stage that it is now
	// outcome is set when it has come to its end and has let go of everything.
	outcome atomic.Pointer[outcome]
}

// outcome is how an instance ended: without a fault, by a normal end or because it was told to leave.
type outcome struct{ fault *fault }

func newInstance(s *stage) *instance {
	i := &instance{spec: s.spec, log: s.log, meter: newMeter(), accept: s.path.host.cfg.SetupTimeout}
	i.life, i.leave = context.WithCancelCause(context.Background()) // paths come and go
	i.at.Store(s)
	i.meter.source = s.spec.In == nil
	ends := func(of func(*stage) *HopEnd) seam {
		tell := func(err error) {
			s := i.at.Load()
			s.path.hopBroke(s, of(s), err)
		}
		return seam{meter: i.meter, limit: i.accept, tell: tell, changed: make(chan struct{})}
	}
	if s.spec.In != nil {
		i.in = &reader{seam: ends(func(s *stage) *HopEnd { return s.spec.In })}
	}
	if s.spec.Out != nil {
		i.out = &writer{seam: ends(func(s *stage) *HopEnd { return s.spec.Out }), events: connectors.NewEventQueue()}
	}
	return i
}

// fits reports whether the instance can go on as another stage: it has begun, and would be made the same.
func (i *instance) fits(s Stage) bool {
	same := func(a, b *HopEnd) bool { return a == nil && b == nil || a != nil && b != nil && a.Type == b.Type }
	return i.spec.Program == s.Program && maps.Equal(i.spec.Args, s.Args) && same(i.spec.In, s.In) && same(i.spec.Out, s.Out) &&
		(i.in == nil || i.in.line.Load() != nil)
}

// run runs the operator to its end, tells its neighbours, lets go of everything, and tells the path that it belongs to by
// then. There is no fault when it was told to leave.
func (i *instance) run(s *stage) {
	f := i.operate(s)
	var failed error
	switch {
	case i.life.Err() == nil && f != nil:
		failed = f.err
		if i.in != nil {
			_ = i.in.Signal(connectors.Event{Kind: connectors.Fault, Text: clip(s.spec.ID+": "+f.err.Error(), maxText)})
		}
	case errors.Is(context.Cause(i.life), errStopping):
		failed, f = errStopping, nil // the others are to go on with another node, not to take it for the end of the stream
	default:
		f = nil
	}
	i.release(failed)
	i.leave(nil)
	i.outcome.Store(&outcome{f})
	i.at.Load().path.wake()
}

// note tells the owner of the path something, in the name of the stage that it is now.
func (i *instance) note(kind, text string) {
	s := i.at.Load()
	s.path.note(s.spec.ID, kind, text)
}

// operate waits for the sender and runs the operator.
func (i *instance) operate(s *stage) *fault {
	if s.inbound != nil {
		hop, err := s.inbound.await(i.life, i.accept)
		if err != nil {
			return &fault{hop: s.spec.In.Hop, neighbour: s.spec.In.Peer, err: err}
		}
		i.in.join(hop, false)
	}
	// An interface that holds a nil pointer is not nil: the operator must see that an end is absent.
	var in connectors.Reader
	var out connectors.Writer
	if i.in != nil {
		in = i.in
	}
	if i.out != nil {
		out = i.out
	}
	err := i.guard(func() error { return i.op.Run(i.life, in, out) })
	if err == nil {
		return nil
	}
	return i.blame(err)
}

// blame finds out whose fault an operator's error is. The operator may have worded it anew, so what counts is whether
// one of its hops had broken.
func (i *instance) blame(err error) *fault {
	spec := i.at.Load().spec
	if i.in != nil && i.in.broke.Load() != nil {
		return &fault{spec.In.Hop, spec.In.Peer, err, i.in.wasTold()}
	}
	if i.out != nil && i.out.broke.Load() != nil {
		return &fault{spec.Out.Hop, spec.Out.Peer, err, i.out.wasTold()}
	}
	return &fault{err: err}
}

// guard makes a panic of an operator an error of its stage. A panic in a goroutine that the operator itself started
// cannot be caught by anyone else.
func (i *instance) guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			i.log.Error("operator panicked", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("program %q panicked: %v", i.spec.Program, v)
		}
	}()
	return f()
}

// release closes the instance's hops and its operator.
func (i *instance) release(failed error) {
	if i.in != nil {
		i.in.release()
		i.at.Load().inbound.release() // its sender may not have come yet
	}
	if i.out != nil {
		i.out.release(failed)
	}
	closeOperator(i.op)
}

// closeOperator lets an operator go that holds something beyond its Run, such as a child process.
func closeOperator(op operators.Operator) {
	if c, ok := op.(io.Closer); ok {
		c.Close()
	}
}
