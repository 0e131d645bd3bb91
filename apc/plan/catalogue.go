package plan

import (
	"fmt"
	"strings"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
)

// Operator is something that can be a step of a path, and where.
type Operator struct {
	// Name is unique within a catalogue. A published operator is OWNER-ID#service/operator; the caller joins those that
	// are alike but for where they run into one operator with many places.
	Name string
	// Spec is its description. Costs there hold at every place that does not say otherwise.
	Spec operators.Spec
	// Places are where it runs (Fixed) or may run. An operator without places is in no plan. Operators may share one
	// slice, and should when there are many: it is indexed once.
	Places []Place
	// Fixed says that it runs already, as part of a long-lived service or a unit: it is not instantiated.
	Fixed bool
	// Service and Kind are those of the description, for explanations.
	Service, Kind string
	// Data are references (SERVICE@sha256:HASH) that an instance must have; see Data.
	Data []string
}

// Place is a node at which an operator may run.
type Place struct {
	Node ca.ID
	// Cost replaces the description's cost at this node: what has been learned of it here. nil: the description's.
	Cost *operators.Cost
}

// Node is a machine that paths may use, or a unit.
type Node struct {
	ID ca.ID
	// Load is how many of its cores paths have taken. It is both the cost of crowding and, against Cores, what bounds
	// further steps.
	Load float64
	// Cores and Memory (bytes) are what paths may take in all; zero is not said: no bound.
	Cores float64
	// Memory is what is still free for paths, in bytes; zero is not said: no bound.
	Memory int64
	// Region groups nodes that are near each other.
	Region string
	// Transports are the schemes that the node can send and receive by; empty is all that the catalogue has.
	Transports []string
}

// Link is what was measured between two regions, both ways; From may be To: then between two nodes of one region.
type Link struct {
	From, To string
	// Latency is the 99th percentile of the one-way delay.
	Latency time.Duration
	// Price is for a stream for an hour, in the unit of operators.Cost.
	Price float64
}

// Transport is how a hop may be carried, and what that costs beside the link.
type Transport struct {
	Scheme string
	// Media is the beginning of the media types that the entry is for; the longest entry of a scheme counts. A scheme
	// without an entry for a type does not carry it.
	Media string
	// Local transports join steps on one node, others steps on any two nodes.
	Local   bool
	Latency time.Duration
	// CPU is the share of a core that both ends take together.
	CPU float64
	// Loses says that ADUs may be missing. Where the media type does not bear that (connectors.BearsLoss), the scheme is for
	// operators at both ends that name it: who names it bears it.
	Loses bool `json:",omitempty"`
	// Trunk is what a hop takes in their place between two nodes that a trunk joins already (Parts.Trunks); nil: the same.
	Trunk *TrunkCost `json:",omitempty"`
}

// TrunkCost is what a hop takes on a trunk that is there.
type TrunkCost struct {
	Latency time.Duration
	CPU     float64
}

// Trunk is a sealed trunk that running paths keep between two nodes, for both ways.
type Trunk struct{ From, To ca.ID }

// Transports are the costs that a catalogue has when its parts name none, of what the transports promise
// (connectors.Promises): memory within a node; SRTP for sound; framed TLS for all else, and, dearly because one lost packet
// holds up the rest, for sound too; sealed datagrams, on which nothing is held up, for those that name them; and WebRTC,
// which takes ICE and DTLS to set up, where a node has nothing else for sound.
func Transports() (all []Transport) {
	for _, p := range connectors.Promises() {
		t := Transport{Scheme: p.Scheme, Media: p.Media, Loses: p.Loses}
		sound := strings.HasPrefix(p.Media, "audio/")
		switch p.Scheme {
		case "mem":
			t.Local, t.Latency = true, 20*time.Microsecond
		case "tcp":
			t.Latency, t.CPU = time.Millisecond, 0.002
		case "udp":
			t.Latency, t.CPU = 500*time.Microsecond, 0.002
		case "rtp":
			t.Latency, t.CPU = 2*time.Millisecond, 0.004
		case "webrtc":
			t.Latency, t.CPU = 4*time.Millisecond, 0.006
			if !sound {
				t.Latency = 10 * time.Millisecond
			}
		}
		all = append(all, t)
	}
	return append(all,
		Transport{Scheme: "tcp", Media: "audio/", Latency: 40 * time.Millisecond, CPU: 0.006},
		Transport{Scheme: "tcp", Media: "video/", Latency: 40 * time.Millisecond, CPU: 0.015},
	)
}

// Data is external data that some nodes hold and others may fetch.
type Data struct {
	Ref   string
	Size  int64 // bytes
	Nodes []ca.ID
}

// Parts are what a catalogue is built of. Order does not matter to any plan, but for naming ties.
type Parts struct {
	Operators []Operator
	Nodes     []Node
	Links     []Link
	Data      []Data
	// Trunks are those that run already; nodes that are not there are passed over. What a new path's own second hop between
	// two nodes would save is not counted.
	Trunks []Trunk `json:",omitempty"`
	// Transports are those of hops; nil is Transports().
	Transports []Transport
	// Link is assumed between regions that no link joins, and within regions without one; zero is 20 ms and 1 ms.
	Far, Near time.Duration
}

// Catalogue is an immutable snapshot of all that a plan may be made of, as one asker sees it: nothing that the asker
// may not find is ever in it, so that no plan, refusal, explanation or duration can tell of it. Safe for concurrent use.
type Catalogue struct {
	version    uint64
	ops        []*Operator
	byName     names[string]
	nodes      []Node
	byID       names[ca.ID]
	regions    []string
	linkLat    [][]float64 // seconds, closed under shortest paths
	linkPrice  [][]float64
	transports []Transport
	onTrunk    map[*Transport]*Transport // what it is on a trunk, where that differs
	trunks     map[int32][]int32         // by node: the nodes to which it has a trunk
	trunkZones map[[2]int32]bool
	schemes    []string // bit i of a transport mask
	local      uint32   // schemes that are local
	asked      uint32   // schemes that are only for operators that name them
	nodeZone   []int32
	zones      []zone
	places     [][]int32 // node indexes by operator, ascending
	holders    map[string]map[int32]bool
	dataSize   map[string]int64
	opMask     []uint32
	override   []map[int32]operators.Cost // by operator, nil where no place has a cost of its own
	sig        []int32                    // signature by operator
	sigs       []signature
	sigOf      names[[2]string]
	tables     *tables  // what is computed when first asked for
	base       []vector // by operator: what its description says it takes
	now        *numbers
	parts      Parts              // but Operators and Nodes, which are ops and nodes
	lists      map[uint64][]int32 // place lists that operators may share, by a hash

	// How it was made, for Cache: of what, by which names, and whether by nothing that can have opened a better path.
	parent     *Catalogue
	touched    []string
	worse      bool
	generation int

	// What attach made: for whom it was, and of what.
	outer        *Catalogue
	source, sink *Endpoint
	common       int // signatures that those have in common who share automata; zero is all
}

// zone is a set of nodes that hops cannot tell apart: one region, one set of transports.
type zone struct {
	region int
	mask   uint32
}

// signature is a pair of patterns that operators share.
type signature struct{ in, out operators.Pattern }

// Version counts up with each catalogue made from another by With.
func (c *Catalogue) Version() uint64 { return c.version }

// Operators is how many operators there are.
func (c *Catalogue) Operators() int { return len(c.ops) }

// Nodes is how many nodes there are.
func (c *Catalogue) Nodes() int { return len(c.nodes) }

// Operator returns the operator of a name.
func (c *Catalogue) Operator(name string) (Operator, bool) {
	i, ok := c.byName.get(name)
	if !ok {
		return Operator{}, false
	}
	return *c.ops[i], true
}

// Node returns the node of an ID.
func (c *Catalogue) Node(id ca.ID) (Node, bool) {
	i, ok := c.byID.get(id)
	if !ok {
		return Node{}, false
	}
	return c.nodes[i], true
}

// NewCatalogue checks the parts and makes a catalogue of version 1. Numbers that are negative or no numbers, names that
// stand there twice and places at unknown nodes are refused, with what is wrong.
func NewCatalogue(p Parts) (*Catalogue, error) {
	c := &Catalogue{version: 1, parts: p, tables: newTables(), now: &numbers{}}
	if c.transports = p.Transports; c.transports == nil {
		c.transports = Transports()
	}
	if err := c.addTransports(); err != nil {
		return nil, err
	}
	if err := c.addNodes(p.Nodes, p.Links); err != nil {
		return nil, err
	}
	if err := c.addOperators(p.Operators); err != nil {
		return nil, err
	}
	c.addTrunks(p.Trunks)
	c.holders, c.dataSize = make(map[string]map[int32]bool), make(map[string]int64)
	for _, d := range p.Data {
		if d.Size < 0 {
			return nil, fmt.Errorf("data %s: size %d: want a number that is not negative", d.Ref, d.Size)
		}
		held := make(map[int32]bool)
		for _, id := range d.Nodes {
			if n, ok := c.byID.get(id); ok {
				held[int32(n)] = true
			}
		}
		c.holders[d.Ref], c.dataSize[d.Ref] = held, d.Size
	}
	c.parts.Operators, c.parts.Nodes = nil, nil
	return c, nil
}
