package plan

import (
	"fmt"
	"slices"

	"ninja/ca"
	"ninja/operators"
)

// Endpoint is an end of a path that is no operator of the catalogue but an address outside it, such as a telephone that
// speaks RTP and runs nothing of ours. It is a step of the plan like any other: it costs nothing itself, and the hop
// to it costs what hops to its region do. No domain bound keeps it out: the asker named it.
type Endpoint struct {
	// Name is how plans and explanations call it, its address for instance. No operator or node may have the name.
	Name string `json:"name"`
	// Type is the set of types that it gives, as the source, or takes, as the sink.
	Type operators.Pattern `json:"type"`
	// Region says where it is. When it is "" the region of the node Near counts; without either, or with a region that
	// no node is in, it is as far from every node as regions are that no link joins.
	Region string `json:"region,omitempty"`
	Near   ca.ID  `json:"near,omitempty"`
	// Transports are the schemes by which it can be reached; empty is all that the catalogue has but those that an operator
	// must name (Transport.Loses). Local ones do not count.
	Transports []string `json:"transports,omitempty"`
}

// maxEndpointName bounds the name of an endpoint, in bytes.
const maxEndpointName = 1024

func (e *Endpoint) check(end string, named string) error {
	switch {
	case e == nil && named == "":
		return fmt.Errorf("a request wants two endpoints")
	case e == nil:
		return nil
	case named != "" && named != e.Name:
		return fmt.Errorf("the %s is both %s and %s: name one", end, named, e.Name)
	case e.Name == "" || len(e.Name) > maxEndpointName:
		return fmt.Errorf("the %s wants a name of at most %d bytes", end, maxEndpointName)
	case e.Type.IsZero():
		return fmt.Errorf("the %s %s wants a type", end, e.Name)
	}
	return nil
}

// from and to are what the ends of a request are called.
func (r *Request) from() string { return endName(r.From, r.Source) }
func (r *Request) to() string   { return endName(r.To, r.Sink) }

func endName(name string, e *Endpoint) string {
	if e != nil {
		return e.Name
	}
	return name
}

// attach is the catalogue with the endpoints of a request that are outside it, for that request alone.
func (c *Catalogue) attach(r *Request) (*Catalogue, error) {
	if c.source == r.Source && c.sink == r.Sink {
		return c, nil
	}
	if c.outer != nil {
		c = c.outer
	}
	if r.Source == nil && r.Sink == nil {
		return c, nil
	}
	var ch Change
	for _, e := range []*Endpoint{r.Source, r.Sink} {
		if e == nil {
			continue
		}
		if _, taken := c.byName.get(e.Name); taken {
			return nil, fmt.Errorf("an operator is called %s: an endpoint wants another name", e.Name)
		}
		if _, taken := c.byID.get(ca.ID(e.Name)); taken {
			return nil, fmt.Errorf("a node is called %s: an endpoint wants another name", e.Name)
		}
		n := Node{ID: ca.ID(e.Name), Region: e.Region, Transports: e.Transports}
		if near, ok := c.byID.get(e.Near); ok && n.Region == "" {
			n.Region = c.nodes[near].Region
		}
		o := Operator{Name: e.Name, Fixed: true, Places: []Place{{Node: n.ID}}}
		if o.Spec.Name = e.Name; e == r.Source {
			o.Spec.Out = e.Type
		} else {
			o.Spec.In = e.Type
		}
		o.Spec.Transports = c.away(e.Transports)
		ch.Nodes, ch.Operators = append(ch.Nodes, n), append(ch.Operators, o)
	}
	if len(ch.Nodes) == 2 && ch.Nodes[0].ID == ch.Nodes[1].ID {
		return nil, fmt.Errorf("both endpoints are called %s: they want two names", r.Source.Name)
	}
	next, err := c.amend(ch)
	if err != nil {
		return nil, err
	}
	if t := next.tables; len(t.shapes) == len(c.tables.shapes) && len(t.abouts) == len(c.tables.abouts) {
		t.pool, next.common = c.tables.pool, len(c.sigs)
	}
	next.now = c.now.with(next)
	next.version, next.outer, next.source, next.sink = c.version, c, r.Source, r.Sink
	return next, nil
}

// away are those of some schemes that join different nodes; none named is all of them.
func (c *Catalogue) away(schemes []string) (far []string) {
	for i, s := range c.schemes {
		if c.local&(1<<i) == 0 && (len(schemes) == 0 && c.asked&(1<<i) == 0 || slices.Contains(schemes, s)) {
			far = append(far, s)
		}
	}
	if far == nil {
		far = []string{"(none)"} // no scheme at all, where an empty list would be all of them
	}
	return far
}

// outside reports whether a node is an endpoint that lies outside the catalogue.
func (c *Catalogue) outside(n *Node) bool {
	return c.source != nil && string(n.ID) == c.source.Name || c.sink != nil && string(n.ID) == c.sink.Name
}
