package apc

import (
	"fmt"
	"math"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
	sdsindex "ninja/sds/index"
)

// State is where a path is in its life.
type State string

// States of a path.
const (
	Planned   State = "planned"   // found, not made
	Preparing State = "preparing" // operators are being started and hops set up
	Running   State = "running"   // data flows
	Repairing State = "repairing" // something in it broke, and it is being made anew
	Ended     State = "ended"     // torn down on request, or the source ended
	Failed    State = "failed"    // something in it broke; Why says what
)

// Info is what the creator tells of a path.
type Info struct {
	Path    string    `json:"path"`
	Request string    `json:"request"`
	Owner   ca.ID     `json:"owner"`
	State   State     `json:"state"`
	Why     string    `json:"why,omitempty"`
	Created time.Time `json:"created"`
	// Expires is when the capability lapses that the path runs under: it ends then unless it is renewed.
	Expires time.Time `json:"expires"`
	// Epoch counts how often the path was made, from 1.
	Epoch uint32 `json:"epoch"`
	Steps []Step `json:"steps"`
	Hops  []Hop  `json:"hops"`
	Cost  Cost   `json:"cost"`
	// Score is what the plan costs in the unit of the objective.
	Score float64 `json:"score"`
	// PlanTime is all of planning; Search is the part of it that the planner or its cache took.
	PlanTime time.Duration `json:"plan_ns"`
	Search   time.Duration `json:"search_ns"`
	// Spares is how many of the path's nodes could be done without by a plan that is made already.
	Spares int `json:"spares"`
	// SetUp is the time from the request to the start of the flow, planning included.
	SetUp       time.Duration `json:"setup_ns"`
	Explanation string        `json:"explanation,omitempty"`
	// Moves are the latest times that the path was made anew, oldest first; Repairs counts those because something broke,
	// Moved the others.
	Moves   []Move `json:"moves,omitempty"`
	Repairs int    `json:"repairs"`
	Moved   int    `json:"moved"`
	// Outlook is what the creator saw when it last looked for a better plan; nil before.
	Outlook *Outlook `json:"outlook,omitempty"`
}

// Measured is what the path's latency is by its nodes' own measurements: the sum of the 99th percentiles of its steps and
// of the delays of its links. It is zero before anything was measured.
func (i *Info) Measured() (sum time.Duration) {
	for _, s := range i.Steps {
		sum += s.ProcessP99
	}
	for _, h := range i.Hops {
		sum += h.Stats.Link
	}
	return sum
}

// Causes of moves.
const (
	// CauseRepair is that something broke, CauseBetter that another plan was better by more than moving costs, and
	// CauseCertificates that the certificates which the hops were opened with were about to end.
	CauseRepair       = "repair"
	CauseBetter       = "better"
	CauseCertificates = "certificates"
)

// Move is one time that a running path was made anew.
type Move struct {
	Time  time.Time `json:"time"`
	Epoch uint32    `json:"epoch"` // from then on
	Cause string    `json:"cause"`
	Why   string    `json:"why"` // for a person
	// Before and After are the scores of the plans; Before is +Inf, told as -1, when the old one did not work any more.
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	// Gap is from when the first node left the old flow, or the fault was known, until all had started the new one.
	Gap time.Duration `json:"gap_ns"`
	// Steps is where the operators run since.
	Steps string `json:"steps"`
}

// drain is how long what was left may take to come to its end.
func (m *Move) drain() time.Duration {
	if m.Cause == CauseRepair {
		return brokenDrain
	}
	return drain
}

func (m *Move) repairs() int {
	if m.Cause == CauseRepair {
		return 1
	}
	return 0
}

// Outlook compares a running path with the best that there would be.
type Outlook struct {
	Time time.Time `json:"time"`
	// Now is what the running plan costs by what is known today, Best what the best plan would; in the unit of the
	// objective. A plan that does not work any more costs +Inf, told as -1.
	Now  float64 `json:"now"`
	Best float64 `json:"best"`
	Text string  `json:"text"` // what was concluded
}

// Step is one operator of a path.
type Step struct {
	Stage    string `json:"stage"`
	Operator string `json:"operator"`
	// Service is the id of the description the operator came from.
	Service string `json:"service"`
	Node    ca.ID  `json:"node"`
	Program string `json:"program"`
	Cost    Cost   `json:"cost"`
	// What the node has measured; zero before its first heartbeat.
	In         uint64        `json:"adus_in"`
	Out        uint64        `json:"adus_out"`
	ProcessP50 time.Duration `json:"process_p50_ns"`
	ProcessP99 time.Duration `json:"process_p99_ns"`

	control   string
	args      map[string]string
	name      string         // in the catalogue
	described operators.Cost // by the operator itself
}

// Hop is what flows between two steps.
type Hop struct {
	Hop       string          `json:"hop"`
	Type      connectors.Type `json:"type"`
	Transport string          `json:"transport"`
	// Stats are the receiving end's.
	Stats connectors.Stats `json:"stats"`
}

// Cost is what a step or a path is expected to cost.
type Cost struct {
	CPU     float64       `json:"cpu"`
	Memory  int64         `json:"memory"`
	Latency time.Duration `json:"latency_ns"`
	Price   float64       `json:"price"`
	Quality float64       `json:"quality"`
}

// Event is something that happened in a path.
type Event struct {
	Time time.Time `json:"time"`
	// Kind is "state", "note" or "fault".
	Kind  string `json:"kind"`
	Stage string `json:"stage,omitempty"`
	Node  ca.ID  `json:"node,omitempty"`
	// NoteKind is the operator's word for a note, such as "recognised".
	NoteKind string `json:"note,omitempty"`
	Text     string `json:"text"`
}

// Request asks for a path.
type Request struct {
	// Path is the path's name, 16 lower-case hexadecimal digits; "" has Plan do without and Create refuse.
	Path string
	// Line is the one-line form, as in "phone:lobby ! ?map-directions ! phone:lobby".
	Line string
	// Templates are partial descriptions, as for a query, that the line refers to as ?@1, ?@2 and so on: a required step
	// that is one of what they match. At most eight, of 4 KiB each.
	Templates [][]byte
	// Capability is the asker's, narrowed to the creator's key.
	Capability []byte
	// Position of the user; nil takes the one in the first endpoint's description.
	Position *operators.Position
}

// Bounds of a request.
const (
	maxCapability = 16 << 10
	maxTemplate   = 4 << 10
)

// check says what is wrong with a request in itself, naming the word, and takes it apart.
func (r *Request) check() (*plan.Form, []word, error) {
	if len(r.Capability) > maxCapability {
		return nil, nil, fmt.Errorf("%w: a capability of %d bytes: at most %d are allowed", ErrBadRequest, len(r.Capability), maxCapability)
	}
	if p := r.Position; p != nil && !(math.Abs(p.Lat) <= 90 && math.Abs(p.Lon) <= 180) {
		return nil, nil, fmt.Errorf("%w: position %v,%v: want degrees, latitude to 90 and longitude to 180", ErrBadRequest, p.Lat, p.Lon)
	}
	if len(r.Templates) > plan.MaxRequired {
		return nil, nil, fmt.Errorf("%w: %d templates: at most %d are allowed", ErrBadRequest, len(r.Templates), plan.MaxRequired)
	}
	for i, t := range r.Templates {
		if len(t) > maxTemplate {
			return nil, nil, fmt.Errorf("%w: template %d has %d bytes: at most %d are allowed", ErrBadRequest, i+1, len(t), maxTemplate)
		}
		if _, err := sdsindex.Template(t); err != nil {
			return nil, nil, fmt.Errorf("%w: template %d: want a partial description: %w", ErrBadRequest, i+1, err)
		}
	}
	form, err := plan.ParseForm(r.Line)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	words, err := readWords(form, r.Templates)
	return form, words, err
}
