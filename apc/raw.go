package apc

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/connectors"
	"ninja/connectors/rtp"
	"ninja/operators"
)

// raw is an endpoint that is an address outside the system, with what is spoken there:
//
//	rtp://10.0.0.7:5004/audio/PCMU
//	rtp://[2001:db8::7]:5004/audio/L16;rate=16000;channels=1
//
// A proxy that may reach the address stands in for it: it is planned as an operator that such proxies can run, so that
// data crosses to the outside where it is nearest, and nothing else of a plan has to know.
type raw struct {
	at netip.AddrPort
	of connectors.Type
}

// readRaw reads a raw address. Names are no addresses: what a name means changes between two look-ups.
func readRaw(text string) (*raw, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	if scheme != "rtp" {
		return nil, fmt.Errorf("scheme %q: raw addresses are rtp://IP:PORT/MEDIA-TYPE, as in rtp://10.0.0.7:5004/audio/PCMU", scheme)
	}
	where, what, ok := strings.Cut(rest, "/")
	if !ok {
		return nil, fmt.Errorf("want what is spoken there behind the address, as in rtp://%s/audio/PCMU", where)
	}
	at, err := netip.ParseAddrPort(where)
	switch a := at.Addr(); {
	case err != nil:
		return nil, fmt.Errorf("%q: want an IP address with a port, no name: %w", where, err)
	case at.Port() == 0 || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return nil, fmt.Errorf("%q is not the address of one host and port", where)
	}
	t, err := connectors.ParseType(what)
	if err != nil {
		return nil, err
	}
	t = telephone(t)
	return &raw{at, t}, rtp.Carries(t)
}

// telephone writes out what RFC 3551 (section 4.5.14) says of G.711 that says nothing itself.
func telephone(t connectors.Type) connectors.Type {
	if m := t.Media(); m != "audio/PCMU" && m != "audio/PCMA" {
		return t
	}
	params := t.Params()
	for name, value := range map[string]string{"rate": "8000", "channels": "1"} {
		if t.Get(name) == "" {
			params = append(params, connectors.Param{Name: name, Value: value})
		}
	}
	return connectors.MakeType(t.Media(), params...)
}

// What the end of a path at a proxy takes beside the proxy's own hops.
const (
	rawLatency = 5 * time.Millisecond
	rawCPU     = 0.005
	rawMemory  = 1 << 20
)

// KindExternal is the kind of operators that stand in for raw addresses.
const KindExternal = "external"

// operator is what stands in for the address at some proxies.
func (r *raw) operator(word plan.Word, source bool, at []ca.ID) plan.Operator {
	o := plan.Operator{Name: rawName(word, source), Kind: KindExternal}
	o.Spec = operators.Spec{
		Args: []operators.Arg{{Name: operators.ExternalAddress, Value: r.at.String()}},
		Cost: operators.Cost{CPU: rawCPU, Latency: operators.Latency(rawLatency), Memory: rawMemory, Quality: 1},
	}
	pattern, err := operators.ParsePattern(r.of.String())
	if err != nil {
		return o // without a type it fits nothing
	}
	if source {
		o.Spec.Name, o.Spec.Program, o.Spec.Out = "from-"+r.at.String(), operators.ExternalIn, pattern
	} else {
		o.Spec.Name, o.Spec.Program, o.Spec.In = "to-"+r.at.String(), operators.ExternalOut, pattern
	}
	for _, id := range at {
		o.Places = append(o.Places, plan.Place{Node: id})
	}
	return o
}

// rawName is the name of what stands in for an address: no other operator's name has a space in it.
func rawName(w plan.Word, source bool) string {
	if source {
		return "from " + w.Text
	}
	return "to " + w.Text
}

// outside adds to a catalogue what stands in for the raw addresses of a request. reach names the proxies that may reach one.
func outside(c *plan.Catalogue, f *plan.Form, words []word, reach func(netip.AddrPort) []ca.ID) (*plan.Catalogue, error) {
	var ch plan.Change
	for _, end := range []struct {
		plan.Word
		source bool
	}{{f.From, true}, {f.To, false}} {
		for i := range words {
			if words[i].Word != end.Word || words[i].raw == nil {
				continue
			}
			r := words[i].raw
			at := reach(r.at)
			if len(at) == 0 {
				return nil, unknown(end.Word, "no proxy that you may find may reach %s (its administrator allows that: roles.proxy.external)", r.at)
			}
			ch.Operators = append(ch.Operators, r.operator(end.Word, end.source, at))
		}
	}
	if ch.Operators == nil {
		return c, nil
	}
	next, err := c.With(ch)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return next, nil
}

// reach names the proxies in view that may reach an address outside the system, in order.
func (v *view) reach(a netip.AddrPort) (all []ca.ID) {
	for owner := range v.owners {
		if t := v.nodeThing(owner); t != nil && t.proxy() && t.Node.Reaches(a) {
			all = append(all, owner)
		}
	}
	slices.Sort(all)
	return all
}
