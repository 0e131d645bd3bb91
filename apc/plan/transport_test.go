package plan

import (
	"context"
	"errors"
	"testing"

	"ninja/ca"
	"ninja/connectors"
)

// What joins two nodes is chosen by what transports promise, what the ends bear, and what the nodes have.
func TestTransportsAreChosenByTheirPromises(t *testing.T) {
	const a, b = ca.ID("spiffe://test/proxy/a"), ca.ID("spiffe://test/proxy/b")
	bears := []string{"mem", "tcp", "udp"}
	for _, tc := range []struct {
		name, typ string
		from, to  []string // of the operators
		node      []string // of the one node
		want      string   // the scheme, or none
	}{
		{name: "sound", typ: "audio/PCMU", want: "rtp"},
		{name: "sound that rtp does not carry", typ: "audio/G722", want: "tcp"},
		{name: "video, which rtp does not carry", typ: "video/VP8", want: "tcp"},
		{name: "a document", typ: "application/xml", want: "tcp"},
		{name: "text as it is typed", typ: "text/t140", want: "tcp"},
		{name: "text as it is typed, to a node of datagrams", typ: "text/t140", node: []string{"rtp", "udp"}, want: "rtp"},
		{name: "readings that both ends can do without", typ: "application/json", from: bears, to: bears, want: "udp"},
		{name: "readings that the listener wants all of", typ: "application/json", from: bears, want: "tcp"},
		{name: "readings that the source wants delivered", typ: "application/json", to: bears, want: "tcp"},
		{name: "a document to a node of datagrams", typ: "application/xml", node: []string{"rtp", "udp"}},
		{name: "readings to a node of datagrams", typ: "application/json", from: bears, to: bears, node: []string{"rtp", "udp"}, want: "udp"},
		{name: "sound to a node behind ICE", typ: "audio/PCMU", node: []string{"tcp", "webrtc"}, want: "webrtc"},
		{name: "sound that webrtc does not carry, to a node behind ICE", typ: "audio/L16", node: []string{"tcp", "webrtc"}, want: "tcp"},
		{name: "a document to a node behind ICE", typ: "application/xml", node: []string{"tcp", "webrtc"}, want: "tcp"},
		{name: "a document to a node that has nothing else", typ: "application/xml", node: []string{"webrtc"}, want: "webrtc"},
	} {
		source, sink := op("source", "", tc.typ, 0, 0, 0, a), op("sink", tc.typ, "", 0, 0, 0, b)
		source.Spec.Transports, sink.Spec.Transports = tc.from, tc.to
		c, err := NewCatalogue(Parts{Nodes: []Node{{ID: a}, {ID: b, Transports: tc.node}}, Operators: []Operator{source, sink}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Plan(context.Background(), Request{From: "source", To: "sink"})
		var refusal *Refusal
		switch {
		case tc.want == "" && !errors.As(err, &refusal):
			t.Errorf("%s: %v, want a refusal", tc.name, err)
		case tc.want != "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && got.Hops[0].Transport != tc.want:
			t.Errorf("%s goes by %s, want %s", tc.name, got.Hops[0].Transport, tc.want)
		}
	}
}

// The costs of the planner's own table are of transports that there are, and every promise has one.
func TestEveryPromiseHasACost(t *testing.T) {
	priced := make(map[[2]string]bool)
	for _, k := range Transports() {
		priced[[2]string{k.Scheme, k.Media}] = true
		if !k.Local && (k.Latency == 0 || k.CPU == 0) {
			t.Errorf("%s for %q costs nothing", k.Scheme, k.Media)
		}
	}
	for _, p := range connectors.Promises() {
		if !priced[[2]string{p.Scheme, p.Media}] {
			t.Errorf("%s for %q has no cost", p.Scheme, p.Media)
		}
	}
}
