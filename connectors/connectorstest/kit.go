// Package connectorstest is the conformance kit of the connectors: order, loss, end of stream, back pressure, deadlines,
// events, statistics and Close mean the same on every transport, and Run shows it.
package connectorstest

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"ninja/connectors"
)

// Ends are the two ends that the kit joins.
type Ends struct {
	// Listen and Dial are the transports of the receiving and the sending end.
	Listen, Dial connectors.Transport
	// Stranger dials as somebody else; nil where a hop stays inside the process.
	Stranger connectors.Transport
	// Receiver and Sender are the IDs of the two ends; "" inside the process.
	Receiver, Sender string
	// Type is what flows; ADU makes the n-th ADU of it, from 0. Payloads differ and fit one packet.
	Type connectors.Type
	ADU  func(n int) connectors.ADU
	// Other is another type that the transport carries; zero is audio/L16 of two channels.
	Other connectors.Type
	// Media is for transports that keep to the media's time and let a slow receiver lose rather than wait.
	Media bool
	// Stamped is for transports that carry stamps.
	Stamped bool
	// Abreast is how many hops come and go at a time, where making one means waiting; 0 is 1.
	Abreast int
}

// patience bounds every wait of the kit: far more than any needs.
const patience = 20 * time.Second

// Run runs the kit. It calls ends for each test; what ends starts it stops in t.Cleanup.
func Run(t *testing.T, ends func(t *testing.T) Ends) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.run(t, ends(t)) })
	}
}

// RunSome runs the part of the kit whose transports are slow to make: order, the end, and flush.
func RunSome(t *testing.T, ends func(t *testing.T) Ends) {
	t.Helper()
	for _, c := range cases() {
		switch c.name {
		case "all of it arrives in order, then the end", "the sender closes twice", "flush drops what is held":
			t.Run(c.name, func(t *testing.T) { c.run(t, ends(t)) })
		}
	}
}

// RunSimulated runs the kit, each test in a testing/synctest bubble of its own: for ends that are joined by a world.Sim
// made in ends.
func RunSimulated(t *testing.T, ends func(t *testing.T) Ends) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, ends(t)) })
		})
	}
}

type testCase struct {
	name string
	run  func(*testing.T, Ends)
}

func cases() []testCase {
	return []testCase{
		{"all of it arrives in order, then the end", testOrder},
		{"events travel while data flows", testEventsFlowing},
		{"events travel while the sender is blocked", testEventsBlocked},
		{"many events do not block", testManyEvents},
		{"a full hop holds its sender back", testBackPressure},
		{"a wait ends with its context", testDeadlines},
		{"the sender closes twice", testSenderCloses},
		{"the sender closes at once", testNothingSent},
		{"a sender that fails is not taken for one that ends", testAbort},
		{"a sender fails while its hop is full", testAbortFull},
		{"the receiver closes twice and the sender learns of it", testReceiverCloses},
		{"flush drops what is held", testFlush},
		{"both ends count", testStats},
		{"a stamp grows on its way", testStamp},
		{"another stream, epoch or type is refused", testRefused},
		{"a stranger is refused", testStranger},
		{"an ADU that is too large is refused", testTooLarge},
		{"a pending hop can be given up", testGiveUp},
		{"many rounds leave nothing behind", testRounds},
	}
}

func (e Ends) listening() connectors.Hop {
	return connectors.Hop{Path: "path", Name: "a->b", Epoch: 7, Type: e.Type, Peer: e.Sender}
}

func (e Ends) dialing() connectors.Hop {
	h := e.listening()
	h.Peer = e.Receiver
	return h
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// join makes a hop, which is closed when the test ends.
func (e Ends) join(t *testing.T) (connectors.Writer, connectors.Reader) {
	t.Helper()
	ctx := within(t)
	p, err := e.Listen.Listen(ctx, e.listening())
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.Dial.Dial(ctx, p.Address(), e.dialing())
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error("closing what was accepted:", err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return w, r
}

// send writes ADUs from..to-1 and reports the first error.
func (e Ends) send(ctx context.Context, w connectors.Writer, from, to int) error {
	for n := from; n < to; n++ {
		if err := w.Write(ctx, e.ADU(n)); err != nil {
			return err
		}
	}
	return nil
}

func (e Ends) check(t *testing.T, n int, got connectors.ADU) {
	t.Helper()
	want := e.ADU(n)
	if !bytes.Equal(got.Payload, want.Payload) || got.Mark != want.Mark || got.Seq != uint64(n+1) {
		t.Fatalf("ADU %d: got %d bytes, mark %d, seq %d; want %d bytes, mark %d, seq %d",
			n, len(got.Payload), got.Mark, got.Seq, len(want.Payload), want.Mark, n+1)
	}
	if d := got.MediaTime - want.MediaTime; d.Abs() > time.Millisecond/10 {
		t.Fatalf("ADU %d: media time %v, want %v", n, got.MediaTime, want.MediaTime)
	}
}
