package host

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/operators/host/hostpb"
)

// stage is the place of one operator in one epoch of a path, with the hops of that epoch. Its path's goroutine owns it.
type stage struct {
	path    *path
	spec    Stage
	log     *slog.Logger
	inbound *inbound          // the hop from another node
	inside  connectors.Reader // the hop from another stage of this node
	hop     connectors.Writer // the hop to the next stage, once it is connected
	carries *instance         // what goes on here from the older epoch, if it is there still at Start
	live    bool              // its instance was set off, or has come from the older epoch
	booked  bool              // its instance's end is known

	// Guarded by the path's mu, because measurements read them.
	state State
	inst  *instance // nil while it is the older epoch's
}

// begin sets a new instance off.
func (s *stage) begin() {
	i := s.inst
	if s.inside != nil {
		i.in.join(s.inside, true)
	}
	if i.out != nil {
		var up connectors.Reader
		if i.in != nil {
			up = i.in
		}
		i.out.join(s.hop, s.spec.Out.Transport == Mem, up)
	}
	s.live = true
	go i.run(s)
}

// adopt has an instance of the older epoch go on here. Its hops join those of the older epoch.
func (s *stage) adopt(i *instance, patience time.Duration) {
	s.live = true
	work := &s.path.work
	i.at.Store(s)
	if i.out != nil && !i.out.follow(s.hop, s.spec.Out.Transport == Mem) {
		work.Go(func() { i.out.bye(s.hop) })
	}
	switch {
	case s.inside != nil:
		if i.in.follow(s.inside, true, patience) != nil {
			s.inside.Close()
		}
		i.in.unexpect()
	case s.inbound != nil:
		work.Go(func() { s.receive(i, patience) })
	}
}

// receive brings an instance that goes on its new sender.
func (s *stage) receive(i *instance, patience time.Duration) {
	hop, err := s.inbound.await(i.life, i.accept)
	if err == nil {
		if err = i.in.follow(hop, false, patience); err != nil {
			hop.Close()
		}
	}
	i.in.unexpect()
	if err != nil && i.life.Err() == nil {
		s.path.hopBroke(s, s.spec.In, err)
	}
}

// drop closes what a stage has that never ran.
func (s *stage) drop() {
	if s.carries != nil {
		s.carries.unexpect()
	}
	s.inbound.release()
	if s.inside != nil {
		s.inside.Close()
	}
	if s.hop != nil {
		s.hop.Close()
	}
	if s.inst != nil {
		s.inst.leave(nil)
		closeOperator(s.inst.op)
	}
}

// stats needs the path's mu.
func (s *stage) stats() StageStats {
	st := StageStats{ID: s.spec.ID, State: s.state}
	i := s.inst
	if i == nil { // the older epoch tells of it
		return st
	}
	st.CPU = max(s.spec.CPU, i.meter.working())
	if i.in != nil {
		st.In = i.in.stats()
	}
	if i.out != nil {
		st.Out = i.out.stats()
	}
	st.Process, st.ProcessP99 = i.meter.process()
	st.Age, st.AgeP99 = i.meter.age()
	return st
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

// await waits for the sender, at most for the given time. The hop is the caller's.
func (i *inbound) await(ctx context.Context, limit time.Duration) (connectors.Reader, error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-i.ready:
		return i.reader, i.err
	case <-late.C:
		return nil, fmt.Errorf("no sender came within %v", limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// release gives up waiting, and closes the hop if the sender has come. A nil one has nothing to release; it may be called
// again, by several goroutines.
func (i *inbound) release() {
	if i == nil {
		return
	}
	i.cancel()
	i.pending.Close()
	<-i.ready
	if i.reader != nil {
		i.reader.Close()
	}
}

// fault says what went wrong with a stage; hop is empty when it is the stage's own.
type fault struct {
	hop       string
	neighbour ca.ID
	err       error
	told      bool // the creator knows of it, since the hop was waited for
}

func (f *fault) report(stage string) *hostpb.Report {
	return &hostpb.Report{
		Kind: hostpb.Report_FAULT, Stage: stage, Hop: f.hop, Neighbour: string(f.neighbour), Text: clip(f.err.Error(), maxText),
	}
}
