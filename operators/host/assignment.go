package host

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
)

// Assignment is one node's part of a path: what its creator asks it to run.
type Assignment struct {
	// Path names the path; its creator chooses the name, and no other creator may command the path.
	Path string
	// Epoch counts the versions of the path from 1. A higher one replaces what this node runs of a lower one, and a
	// lower one is refused from then on.
	Epoch uint32
	// Beside has an older epoch of the path run on here until Start, so that a path is remade before it is broken;
	// without it the older epoch is torn down first.
	Beside bool
	// Drain is how long, after Start, those stages of the older epoch may go on that are not carried and come to their end by
	// themselves, since what sent to them ends; zero ends them at Start. It is also how long a hop of the older epoch may
	// be silent when that of the newer one sends already. See Stage.Carry.
	Drain time.Duration
	// Lease is how long the path lives without a renewal; zero is the host's default.
	Lease time.Duration
	// Capability is what the path runs under; Permit judges it.
	Capability []byte
	Stages     []Stage
	// Data says where the external data can be fetched that types and arguments refer to, by reference.
	Data map[string]DataSource
	// Position is the place of the user; nil when the request gave none.
	Position *operators.Position
}

// Stage is one operator of the path on this node.
type Stage struct {
	// ID names the stage within the path, Program the code in the node's registry.
	ID, Program string
	Args        map[string]string
	// In is nil for a source, Out for a sink.
	In, Out *HopEnd
	// CPU is the share of one core that the operator's description declares; zero is not said, and what is measured
	// then counts alone.
	CPU float64
	// Carry is the ID of the stage in the older epoch that goes on as this one: with its operator and all that it holds, its
	// hops joined to those of this epoch without a gap. Empty has the stage made anew, and so does an older epoch that has no
	// such stage running, or with another program, arguments or types. It counts only with Beside.
	Carry string
}

// Mem is the transport of hops that join two stages of one assignment inside the process.
const Mem = "mem"

// HopEnd is one end of a hop.
type HopEnd struct {
	// Hop names the hop within the path; both ends have the same name.
	Hop string
	// Transport is the scheme, such as "tcp". The two ends of a Mem hop stand in the same assignment.
	Transport string
	Type      connectors.Type
	// Peer is the node at the other end; empty for Mem.
	Peer ca.ID
	// Address is where the other end listens. It may be given for sending ends that are known at Prepare; else, and
	// usually, it comes with Connect.
	Address string
	// Playout is, at a receiving end whose data is played to a listener, how long that may hold it at most
	// (connectors.Hop.Playout); zero is the node's own.
	Playout time.Duration
}

// DataSource is where external data can be fetched.
type DataSource struct {
	// Address is the data address of the node Peer.
	Address string
	Peer    ca.ID
}

// Bounds of an assignment. They keep what a creator can make a host hold small; the number of stages is in the Config.
const (
	MaxName       = 256       // bytes of the name of a path, stage, hop, program or transport
	MaxArgs       = 32        // arguments of a stage, references of an assignment
	MaxValue      = 4 << 10   // bytes of an argument, reference or address
	MaxCapability = 16 << 10  // bytes
	MaxData       = 4 << 20   // bytes of external data
	MaxLease      = time.Hour // what a creator may ask for
	MaxDrain      = 30 * time.Second
)

// Errors that a creator can branch on; both ends of a session return them wrapped.
var (
	ErrInvalid  = errors.New("invalid command")
	ErrDenied   = errors.New("not permitted")
	ErrFenced   = errors.New("a newer epoch of the path is known")
	ErrFull     = errors.New("the host is full")
	ErrNotFound = errors.New("no such path")
)

// check refuses what is malformed or over a bound.
func (a *Assignment) check(maxStages int) error {
	switch {
	case !name(a.Path) || a.Epoch == 0:
		return fmt.Errorf("%w: a path wants a name of 1 to %d bytes and an epoch from 1", ErrInvalid, MaxName)
	case a.Lease < 0 || a.Lease > MaxLease:
		return fmt.Errorf("%w: a lease of %v: at most %v is allowed", ErrInvalid, a.Lease, MaxLease)
	case a.Drain < 0 || a.Drain > MaxDrain:
		return fmt.Errorf("%w: a drain of %v: at most %v is allowed", ErrInvalid, a.Drain, MaxDrain)
	case len(a.Capability) > MaxCapability:
		return fmt.Errorf("%w: a capability of %d bytes: at most %d are allowed", ErrInvalid, len(a.Capability), MaxCapability)
	case len(a.Stages) == 0 || len(a.Stages) > maxStages:
		return fmt.Errorf("%w: %d stages: 1 to %d are allowed", ErrInvalid, len(a.Stages), maxStages)
	case len(a.Data) > MaxArgs:
		return fmt.Errorf("%w: %d references to data: at most %d are allowed", ErrInvalid, len(a.Data), MaxArgs)
	}
	for ref, source := range a.Data {
		if len(ref) > MaxValue || len(source.Address) > MaxValue {
			return fmt.Errorf("%w: a reference to data of more than %d bytes", ErrInvalid, MaxValue)
		}
	}
	if err := a.checkStages(); err != nil {
		return err
	}
	return a.checkHops()
}

func (a *Assignment) checkStages() error {
	seen, carried := make(map[string]bool), make(map[string]bool)
	for i := range a.Stages {
		s := &a.Stages[i]
		switch {
		case !name(s.ID) || !name(s.Program):
			return fmt.Errorf("%w: stage %d wants an id and a program of 1 to %d bytes", ErrInvalid, i+1, MaxName)
		case s.Carry != "" && !name(s.Carry):
			return fmt.Errorf("%w: stage %q: the stage to carry wants an id of 1 to %d bytes", ErrInvalid, s.ID, MaxName)
		case seen[s.ID]:
			return fmt.Errorf("%w: stage %q stands there twice", ErrInvalid, s.ID)
		case carried[s.Carry]:
			return fmt.Errorf("%w: stage %q is carried twice", ErrInvalid, s.Carry)
		case s.In == nil && s.Out == nil:
			return fmt.Errorf("%w: stage %q has neither an inbound nor an outbound hop", ErrInvalid, s.ID)
		case len(s.Args) > MaxArgs:
			return fmt.Errorf("%w: stage %q has %d arguments: at most %d are allowed", ErrInvalid, s.ID, len(s.Args), MaxArgs)
		case !(s.CPU >= 0) || math.IsInf(s.CPU, 0):
			return fmt.Errorf("%w: stage %q: the share of a core is a finite number from 0", ErrInvalid, s.ID)
		}
		for k, v := range s.Args {
			if !name(k) || len(v) > MaxValue {
				return fmt.Errorf("%w: stage %q: an argument wants a name of 1 to %d bytes and a value of at most %d",
					ErrInvalid, s.ID, MaxName, MaxValue)
			}
		}
		seen[s.ID] = true
		if s.Carry != "" {
			carried[s.Carry] = true
		}
	}
	return nil
}

// checkHops sees to it that every hop is whole: named once at each end, and both ends here for Mem.
func (a *Assignment) checkHops() error {
	ins, outs := make(map[string]*HopEnd), make(map[string]*HopEnd)
	for i := range a.Stages {
		for _, end := range []struct {
			at   *HopEnd
			ends map[string]*HopEnd
		}{{a.Stages[i].In, ins}, {a.Stages[i].Out, outs}} {
			if end.at == nil {
				continue
			}
			if err := end.at.check(); err != nil {
				return fmt.Errorf("%w: stage %q: %w", ErrInvalid, a.Stages[i].ID, err)
			}
			if end.ends[end.at.Hop] != nil {
				return fmt.Errorf("%w: two stages share one end of the hop %q", ErrInvalid, end.at.Hop)
			}
			end.ends[end.at.Hop] = end.at
		}
	}
	for _, side := range []struct{ these, others map[string]*HopEnd }{{ins, outs}, {outs, ins}} {
		for hop, e := range side.these {
			other := side.others[hop]
			switch {
			case e.Transport == Mem && (other == nil || other.Transport != Mem):
				return fmt.Errorf("%w: hop %q has one end in this assignment: %q joins only stages of one assignment",
					ErrInvalid, hop, Mem)
			case other != nil && other.Type != e.Type:
				return fmt.Errorf("%w: hop %q is %q at one end and %q at the other", ErrInvalid, hop, e.Type, other.Type)
			}
		}
	}
	return nil
}

func (e *HopEnd) check() error {
	switch {
	case !name(e.Hop) || !name(e.Transport):
		return fmt.Errorf("a hop wants a name and a transport of 1 to %d bytes", MaxName)
	case e.Type.IsZero():
		return fmt.Errorf("hop %q wants a type", e.Hop)
	case e.Transport != Mem && e.Peer == "":
		return fmt.Errorf("hop %q over %s wants the identity of its other end", e.Hop, e.Transport)
	case e.Playout < 0:
		return fmt.Errorf("hop %q: a playout of %v", e.Hop, e.Playout)
	case len(e.Address) > MaxValue:
		return fmt.Errorf("hop %q: an address of more than %d bytes", e.Hop, MaxValue)
	}
	return nil
}

func name(s string) bool {
	return s != "" && len(s) <= MaxName && !slices.ContainsFunc([]byte(s), func(b byte) bool { return b < ' ' || b == 0x7f })
}
