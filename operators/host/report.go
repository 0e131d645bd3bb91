package host

import (
	"time"

	"ninja/ca"
	"ninja/connectors"
)

// Report is what a host tells the creator of a path without being asked.
type Report struct {
	Kind ReportKind
	// Node is the host.
	Node ca.ID
	// Stage is whom a note or a fault is about. Hop is the hop that broke, and Neighbour the node at its other end;
	// a fault without a hop is the stage's own.
	Stage, Hop string
	Neighbour  ca.ID
	// NoteKind is the word of a note, Text what it says, or why there is a fault; at most 1 KiB, for a person.
	NoteKind, Text string
	// Stages are the measurements of a heartbeat and of the end.
	Stages []StageStats
}

// ReportKind tells reports apart.
type ReportKind uint8

// Kinds of reports.
const (
	// Heartbeat comes every period while the host has the path, with measurements. An old one that was not read yet
	// gives way to a new one.
	Heartbeat ReportKind = 1 + iota
	// Note passes on what an operator says to the path's owner. Notes beyond a rate are dropped.
	Note
	// Fault says that a stage or a hop of a stage has failed. Faults are never dropped, and are told again to a
	// creator that attaches later.
	Fault
	// Ended says that every stage of the assignment has come to its normal end. The path stays until it is closed.
	Ended
)

// String is the kind's word.
func (k ReportKind) String() string {
	switch k {
	case Heartbeat:
		return "heartbeat"
	case Note:
		return "note"
	case Fault:
		return "fault"
	case Ended:
		return "ended"
	}
	return "unknown"
}

// StageStats is what was measured of a stage since it was made.
type StageStats struct {
	ID    string
	State State
	// In and Out count what passed the stage's ends; losses, delay and jitter are those that the hop itself measures.
	In, Out connectors.Stats
	// Process is the median and ProcessP99 the 99th percentile of the local time of an ADU: from reading it to the
	// next write; for an operator that is not one-in-one-out, from the last read to the first write after it. They are
	// of the last 512 ADUs and zero without any.
	Process, ProcessP99 time.Duration
	// Age is the median and AgeP99 the 99th percentile of how old what the stage reads is, counted from when its source
	// wrote it: the latency of the path up to here. They are of the last 64 stamps, one in 50 ADUs of the source, and zero
	// without any.
	Age, AgeP99 time.Duration
	// CPU is the share of one core that the stage counts for: what its description declares, or the share of the time
	// that it was processing, whichever is more.
	CPU float64
}

// State is how far a stage has come.
type State string

// States of a stage.
const (
	Prepared State = "prepared"
	Running  State = "running"
	Stopped  State = "ended"  // came to its normal end
	Failed   State = "failed" // a fault was reported
)

// PathInfo is what a host tells of a path that it runs a part of.
type PathInfo struct {
	Path    string
	Epoch   uint32
	Creator ca.ID
	// Attached says whether a creator's control stream is open; Lease is what is left of the lease.
	Attached bool
	Lease    time.Duration
	Stages   []StageStats
}

// Bounds of what operators tell.
const (
	maxText     = 1 << 10
	maxNoteKind = 64
)
