package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
	"ninja/operators/host/hostpb"
)

// protocol is the version of the messages that this package writes. What it reads may be newer: fields are only added.
const protocol = 1

// clip bounds text and makes it valid UTF-8, which the wire demands.
func clip(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.ToValidUTF8(s, "")
}

// reasons pairs the errors with the reasons they travel as. FAILED is any other error.
var reasons = []struct {
	err    error
	reason hostpb.Refusal_Reason
}{
	{ErrInvalid, hostpb.Refusal_INVALID},
	{ErrDenied, hostpb.Refusal_DENIED},
	{ErrFenced, hostpb.Refusal_FENCED},
	{ErrFull, hostpb.Refusal_FULL},
	{ErrNotFound, hostpb.Refusal_NOT_FOUND},
}

// Refused is the error of a command that a host did not carry out; errors.Is finds ErrFenced and the like in it.
type Refused struct {
	Node ca.ID
	// Text is the host's explanation.
	Text string
	kind error
}

// Error is one sentence.
func (r *Refused) Error() string { return fmt.Sprintf("%s: %s", r.Node, r.Text) }

// Unwrap is the kind of the refusal, nil when the command was tried and failed.
func (r *Refused) Unwrap() error { return r.kind }

func replyEvent(id uint64, addresses map[string]string, err error) *hostpb.Event {
	reply := &hostpb.Reply{Id: id, Addresses: addresses}
	if err != nil {
		reply.Refusal = &hostpb.Refusal{Text: clip(err.Error(), MaxValue)}
		for _, r := range reasons {
			if errors.Is(err, r.err) {
				reply.Refusal.Reason = r.reason
				break
			}
		}
	}
	return &hostpb.Event{Version: protocol, What: &hostpb.Event_Reply{Reply: reply}}
}

func refusalFrom(node ca.ID, r *hostpb.Refusal) error {
	if r == nil {
		return nil
	}
	refused := &Refused{Node: node, Text: clip(r.Text, MaxValue)}
	for _, known := range reasons {
		if known.reason == r.Reason {
			refused.kind = known.err
		}
	}
	return refused
}

func reportEvent(r *hostpb.Report) *hostpb.Event {
	return &hostpb.Event{Version: protocol, What: &hostpb.Event_Report{Report: r}}
}

func reportFrom(node ca.ID, r *hostpb.Report) Report {
	return Report{
		Kind: ReportKind(r.Kind), Node: node, Stage: clip(r.Stage, MaxName), Hop: clip(r.Hop, MaxName),
		Neighbour: ca.ID(clip(r.Neighbour, ca.MaxIDLength)), NoteKind: clip(r.NoteKind, maxNoteKind),
		Text: clip(r.Text, maxText), Stages: statsFrom(r.Stages),
	}
}

func statsToWire(stats []StageStats) []*hostpb.StageStats {
	wire := make([]*hostpb.StageStats, len(stats))
	for i, s := range stats {
		wire[i] = &hostpb.StageStats{
			Id: s.ID, State: string(s.State), In: hopToWire(s.In), Out: hopToWire(s.Out),
			ProcessNanos: int64(s.Process), ProcessP99Nanos: int64(s.ProcessP99), Cpu: s.CPU,
			AgeNanos: int64(s.Age), AgeP99Nanos: int64(s.AgeP99),
		}
	}
	return wire
}

func hopToWire(s connectors.Stats) *hostpb.HopStats {
	return &hostpb.HopStats{
		Adus: s.ADUs, Bytes: s.Bytes, Lost: s.Lost, Late: s.Late, LinkNanos: int64(s.Link), JitterNanos: int64(s.Jitter),
	}
}

func statsFrom(wire []*hostpb.StageStats) []StageStats {
	stats := make([]StageStats, len(wire))
	for i, s := range wire {
		stats[i] = StageStats{
			ID: s.Id, State: State(s.State), In: hopFrom(s.In), Out: hopFrom(s.Out),
			Process: time.Duration(s.ProcessNanos), ProcessP99: time.Duration(s.ProcessP99Nanos), CPU: s.Cpu,
			Age: time.Duration(s.AgeNanos), AgeP99: time.Duration(s.AgeP99Nanos),
		}
	}
	return stats
}

func hopFrom(s *hostpb.HopStats) connectors.Stats {
	return connectors.Stats{
		ADUs: s.GetAdus(), Bytes: s.GetBytes(), Lost: s.GetLost(), Late: s.GetLate(),
		Link: time.Duration(s.GetLinkNanos()), Jitter: time.Duration(s.GetJitterNanos()),
	}
}

func assignmentToWire(a Assignment) *hostpb.Prepare {
	w := &hostpb.Prepare{
		Path: a.Path, Epoch: a.Epoch, Beside: a.Beside, DrainNanos: int64(a.Drain), LeaseNanos: int64(a.Lease),
		Capability: a.Capability, Data: make(map[string]*hostpb.DataSource),
	}
	for ref, d := range a.Data {
		w.Data[ref] = &hostpb.DataSource{Address: d.Address, Peer: string(d.Peer)}
	}
	if a.Position != nil {
		w.Position = &hostpb.Position{Lat: a.Position.Lat, Lon: a.Position.Lon}
	}
	for _, s := range a.Stages {
		w.Stages = append(w.Stages, &hostpb.Stage{
			Id: s.ID, Program: s.Program, Args: s.Args, Cpu: s.CPU, Carry: s.Carry, In: endToWire(s.In), Out: endToWire(s.Out),
		})
	}
	return w
}

func endToWire(e *HopEnd) *hostpb.HopEnd {
	if e == nil {
		return nil
	}
	return &hostpb.HopEnd{
		Hop: e.Hop, Transport: e.Transport, Type: e.Type.String(), Peer: string(e.Peer), Address: e.Address,
		PlayoutNanos: int64(e.Playout),
	}
}

// assignmentFrom reads what a creator sent; check judges the rest.
func assignmentFrom(w *hostpb.Prepare) (Assignment, error) {
	a := Assignment{
		Path: w.Path, Epoch: w.Epoch, Beside: w.Beside, Drain: time.Duration(w.DrainNanos), Lease: time.Duration(w.LeaseNanos),
		Capability: w.Capability, Data: make(map[string]DataSource),
	}
	for ref, d := range w.Data {
		peer, err := ca.ParseID(d.GetPeer())
		if err != nil {
			return a, fmt.Errorf("%w: data %q: %w", ErrInvalid, clip(ref, MaxName), err)
		}
		a.Data[ref] = DataSource{Address: d.GetAddress(), Peer: peer}
	}
	if w.Position != nil {
		a.Position = &operators.Position{Lat: w.Position.Lat, Lon: w.Position.Lon}
	}
	for _, s := range w.Stages {
		in, err := endFrom(s.In)
		if err != nil {
			return a, err
		}
		out, err := endFrom(s.Out)
		if err != nil {
			return a, err
		}
		a.Stages = append(a.Stages, Stage{
			ID: s.Id, Program: s.Program, Args: s.Args, CPU: s.Cpu, Carry: s.Carry, In: in, Out: out,
		})
	}
	return a, nil
}

func endFrom(w *hostpb.HopEnd) (*HopEnd, error) {
	if w == nil {
		return nil, nil
	}
	e := &HopEnd{Hop: w.Hop, Transport: w.Transport, Address: w.Address, Playout: time.Duration(w.PlayoutNanos)}
	var err error
	if e.Type, err = connectors.ParseType(w.Type); err != nil {
		return nil, fmt.Errorf("%w: hop %q: %w", ErrInvalid, clip(w.Hop, MaxName), err)
	}
	if w.Peer != "" {
		if e.Peer, err = ca.ParseID(w.Peer); err != nil {
			return nil, fmt.Errorf("%w: hop %q: %w", ErrInvalid, clip(w.Hop, MaxName), err)
		}
	}
	return e, nil
}

// commandFrom makes a command of what a creator sent on the stream that out belongs to. creator is who it is.
func commandFrom(p *path, creator ca.Peer, w *hostpb.Command, out *outbox) (command, error) {
	c := command{id: w.Id, box: out}
	switch do := w.Do.(type) {
	case *hostpb.Command_Connect:
		c.do = func(ctx context.Context) (map[string]string, error) {
			return nil, p.connect(ctx, do.Connect.GetAddresses())
		}
	case *hostpb.Command_Start:
		c.do = func(ctx context.Context) (map[string]string, error) { return nil, p.start(ctx) }
	case *hostpb.Command_Renew:
		c.do = func(ctx context.Context) (map[string]string, error) {
			return nil, p.renew(ctx, creator, time.Duration(do.Renew.GetLeaseNanos()), do.Renew.GetCapability())
		}
	default:
		return c, fmt.Errorf("%w: this host does not know it, or not after Prepare or Attach", ErrInvalid)
	}
	return c, nil
}
