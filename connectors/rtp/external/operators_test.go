package external

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/internal/world"
	"ninja/operators"
)

// Both ends of a path at one address are one socket: what the address says is heard, and what it is told leaves from where
// it was heard at. Another path gets another session, and an address outside the allow-list no operator at all.
func TestEndsOfAPath(t *testing.T) {
	p := newProgram(t)
	var r operators.Registry
	Register(&r, newEdge(t, p.at.String()+" cname"))
	told := make(chan string, 10)
	env := operators.Env{
		World: world.Real(), Args: map[string]string{operators.ExternalAddress: p.at.String()}, Path: "one",
		In: connectors.MustType(pcmu), Out: connectors.MustType(pcmu), Note: func(kind, text string) { told <- kind + " " + text },
	}
	outside := env
	outside.Args = map[string]string{operators.ExternalAddress: "127.0.0.3:5004"}
	if _, err := r.Make(t.Context(), operators.ExternalOut, outside); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("outside the allow-list: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hop, heard := mem.Pair(16)
	say, down := mem.Pair(16)
	var ends sync.WaitGroup
	run := func(key string, in connectors.Reader, out connectors.Writer) {
		op, err := r.Make(ctx, key, env)
		if err != nil {
			t.Fatal(err)
		}
		ends.Go(func() { op.Run(ctx, in, out) })
	}
	run(operators.ExternalIn, nil, hop)
	run(operators.ExternalOut, down, nil)
	first, second := <-told, <-told
	if first != second || !strings.HasPrefix(first, "receives-at rtp://127.0.0.1:") || !strings.Contains(first, "cname=") {
		t.Errorf("told %q and %q", first, second)
	}
	if op, err := r.Make(ctx, operators.ExternalOut, env); err != nil {
		t.Error(err)
	} else if err := op.Run(ctx, down, nil); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second loudspeaker at one address: %v", err)
	}
	b, from := p.next(5 * time.Second)
	m, err := parseSTUN(b)
	if err != nil {
		t.Fatal(err)
	}
	p.WriteTo(appendSTUN(nil, stunSuccess, m.id, "", ""), from)
	for n := range 3 {
		packet, err := (&pionrtp.Packet{Header: pionrtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: uint32(160 * n), SSRC: 5}, Payload: make([]byte, 160)}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		p.WriteTo(packet, from)
	}
	for n := range 3 {
		if a, err := heard.Read(ctx); err != nil || a.MediaTime != time.Duration(n)*20*ms {
			t.Fatalf("%d: %v %v", n, a.MediaTime, err)
		}
	}
	if err := say.Write(ctx, connectors.ADU{Payload: make([]byte, 160)}); err != nil {
		t.Fatal(err)
	}
	if b, back := p.next(5 * time.Second); !isMedia(b) || back.String() != from.String() {
		t.Errorf("%d bytes came from %v", len(b), back)
	}
	cancel()
	ends.Wait()
}
