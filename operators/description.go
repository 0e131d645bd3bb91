package operators

import (
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"time"
)

// Namespace is the XML namespace of descriptions.
const Namespace = "urn:ninja:service:1"

// Description is what a service, a unit, an active proxy or a dynamic operator publishes of itself. Whatever can stand
// in a path has one or more operator elements; where it runs is its node element.
//
//	<service xmlns="urn:ninja:service:1" kind="map-directions" name="map">
//	  <summary>Driving directions to a street address</summary>
//	  <node control="10.0.0.5:7000" data="10.0.0.5:7001" cores="2" memory="1073741824"/>
//	  <operator name="directions" program="directions">
//	    <in>text/plain;about=address;grammar=SERVICE@sha256:HASH;lang=en</in>
//	    <out>application/xml;about=directions;form=answer;lang=en</out>
//	    <cost cpu="0.02" latency="30ms" memory="200000000" quality="1"/>
//	  </operator>
//	  <data name="grammar" sha256="HASH" size="12345"/>
//	</service>
type Description struct {
	XMLName xml.Name `xml:"urn:ninja:service:1 service"`
	// Kind is what the thing is: "proxy", "operator", "telephone", or a service's own word such as "map-directions".
	Kind string `xml:"kind,attr"`
	// Name is the name within its owner: the service's id is OWNER-ID#Name.
	Name      string    `xml:"name,attr"`
	Summary   string    `xml:"summary,omitempty"`
	Node      *Node     `xml:"node"`
	Operators []Spec    `xml:"operator"`
	Data      []Data    `xml:"data"`
	Position  *Position `xml:"position"`
}

// Kinds with a meaning to the system itself.
const (
	KindProxy    = "proxy"    // an active proxy: a node that runs dynamic operators
	KindOperator = "operator" // a dynamic operator, published by the proxy that can run it
)

// Node says where the publisher can be reached and how much it can carry.
type Node struct {
	// Control is the address of the path control service (gRPC), Data that of the hops that need a listener.
	Control string `xml:"control,attr"`
	Data    string `xml:"data,attr"`
	// Cores and Memory (bytes) are what paths may use; zero is not said.
	Cores  float64 `xml:"cores,attr,omitempty"`
	Memory int64   `xml:"memory,attr,omitempty"`
	// Region groups nodes that are near each other; "" is the default region.
	Region string `xml:"region,attr,omitempty"`
	// Transports lists the schemes by which hops reach the node and leave it, with spaces between; empty is all there are.
	// A node to which datagrams find their way only by ICE says "tcp webrtc".
	Transports string `xml:"transports,attr,omitempty"`
	// External lists what a proxy may reach outside the system, as ParseExternal reads it, with spaces between.
	External string `xml:"external,attr,omitempty"`
}

// maxSchemes bounds the schemes that are read of a node.
const maxSchemes = 8

// Schemes are those of Transports; nil is all there are.
func (n *Node) Schemes() []string {
	if n.Transports == "" {
		return nil
	}
	all := strings.Fields(n.Transports)
	if len(all) == 0 || len(all) > maxSchemes {
		return []string{"(unreadable)"} // nothing, where nil would be all of them
	}
	return all
}

// Data names external data that the publisher serves at its node's data address, by hash.
type Data struct {
	Name   string `xml:"name,attr"`
	SHA256 string `xml:"sha256,attr"`
	Size   int64  `xml:"size,attr"`
}

// Spec describes one operator.
type Spec struct {
	Name string `xml:"name,attr"`
	// Program is the key that the node's registry knows the operator's code by.
	Program string `xml:"program,attr"`
	Summary string `xml:"summary,omitempty"`
	// In is zero for a source, Out for a sink.
	In  Pattern `xml:"in,omitempty"`
	Out Pattern `xml:"out,omitempty"`
	// Cost is what one running instance is expected to cost.
	Cost Cost `xml:"cost"`
	// Args are handed to the program.
	Args []Arg `xml:"arg"`
	// Transports are the schemes that the operator can be reached by; empty is all that its node has, but for those that
	// lose ADUs of types which do not bear that (udp): an operator that names such a scheme says that it bears it.
	Transports []string `xml:"transport"`
}

// Arg is one argument of a program.
type Arg struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

// Cost is what running an operator is expected to cost.
type Cost struct {
	// CPU is the share of one core that one stream takes while it flows.
	CPU float64 `xml:"cpu,attr"`
	// Latency is the 99th percentile of the delay that the operator adds to an ADU.
	Latency Latency `xml:"latency,attr"`
	// Memory is the working set of an instance in bytes.
	Memory int64 `xml:"memory,attr"`
	// Price is in an abstract unit an hour.
	Price float64 `xml:"price,attr,omitempty"`
	// Quality is the share of the meaning that survives, 0 < Quality <= 1; 0 in a description means 1.
	Quality float64 `xml:"quality,attr,omitempty"`
}

// Latency is a duration that is written "12ms" in XML.
type Latency time.Duration

// MarshalText writes the form of time.Duration.String.
func (l Latency) MarshalText() ([]byte, error) { return []byte(time.Duration(l).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (l *Latency) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	*l = Latency(d)
	return err
}

// ParseDescription reads a description and checks it. The bytes must have passed the SDS's strict checker when they
// come from outside.
func ParseDescription(b []byte) (*Description, error) {
	var d Description
	if err := xml.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("description of %s %q: %w", d.Kind, d.Name, err)
	}
	return &d, nil
}

// ParseSpec reads an operator element, as an author writes it who does not know yet where it will run: alone, in the
// namespace of descriptions, or as the only one of a service element, whose node element need not be there.
func ParseSpec(b []byte) (*Spec, error) {
	var s struct {
		XMLName xml.Name
		Spec
		Operators []Spec `xml:"operator"`
	}
	if err := xml.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("operator: %w", err)
	}
	if s.XMLName.Space != Namespace || s.XMLName.Local != "operator" && s.XMLName.Local != "service" {
		return nil, fmt.Errorf("operator: the document is a %s of the namespace %q: want <operator xmlns=%q ...>", s.XMLName.Local, s.XMLName.Space, Namespace)
	}
	spec := s.Spec
	if s.XMLName.Local == "service" {
		if len(s.Operators) != 1 {
			return nil, fmt.Errorf("operator: the service has %d operator elements: want one", len(s.Operators))
		}
		spec = s.Operators[0]
	}
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("operator %q: %w", spec.Name, err)
	}
	return &spec, nil
}

// Marshal writes the description, indented, after checking it.
func (d *Description) Marshal() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, fmt.Errorf("description of %s %q: %w", d.Kind, d.Name, err)
	}
	return xml.MarshalIndent(d, "", "  ")
}

// Check says what is wrong with a description.
func (d *Description) Check() error {
	if d.Kind == "" || d.Name == "" {
		return fmt.Errorf("the service element wants the attributes kind and name")
	}
	if len(d.Operators) > 0 && d.Node == nil {
		return fmt.Errorf("operators without a node element: say where they run")
	}
	names := make(map[string]bool)
	for i := range d.Operators {
		s := &d.Operators[i]
		if err := s.check(); err != nil {
			return fmt.Errorf("operator %q: %w", s.Name, err)
		}
		if names[s.Name] {
			return fmt.Errorf("operator %q stands there twice", s.Name)
		}
		names[s.Name] = true
	}
	for _, x := range d.Data {
		if h, err := hex.DecodeString(x.SHA256); err != nil || len(h) != 32 || x.SHA256 != strings.ToLower(x.SHA256) {
			return fmt.Errorf("data %q: sha256 wants 64 lower-case hexadecimal digits", x.Name)
		}
	}
	return nil
}

func (s *Spec) check() error {
	c := s.Cost
	switch {
	case s.Name == "" || s.Program == "":
		return fmt.Errorf("the attributes name and program are wanted")
	case s.In.IsZero() && s.Out.IsZero():
		return fmt.Errorf("an in or an out element is wanted")
	case !(c.CPU >= 0) || math.IsInf(c.CPU, 0), c.Memory < 0, c.Latency < 0, !(c.Price >= 0) || math.IsInf(c.Price, 0):
		return fmt.Errorf("costs are finite numbers that are not negative")
	case !(c.Quality >= 0 && c.Quality <= 1):
		return fmt.Errorf("quality is a number from 0 to 1")
	}
	return nil
}

// Link is the operator as a member of a chain.
func (s *Spec) Link() Link { return Link{Name: s.Name, In: s.In, Out: s.Out} }

// Ref is a reference to external data as it stands in types and arguments: SERVICE@sha256:HASH.
type Ref struct{ Service, SHA256 string }

// ParseRef reads a reference; ok is false when s is something else.
func ParseRef(s string) (r Ref, ok bool) {
	service, hash, ok := strings.Cut(s, "@sha256:")
	if b, err := hex.DecodeString(hash); !ok || err != nil || len(b) != 32 || service == "" {
		return Ref{}, false
	}
	return Ref{service, hash}, true
}

// String writes what ParseRef reads.
func (r Ref) String() string { return r.Service + "@sha256:" + r.SHA256 }
