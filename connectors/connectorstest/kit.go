// Package connectorstest is the conformance kit of the connectors: order, loss, end of stream, back pressure, deadlines,
// events, statistics and Close mean the same on every transport, and Run shows it.
package connectorstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
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
	// Media is for transports that keep to the media's time and let a slow receiver lose rather than wait.
	Media bool
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
		{"the receiver closes twice and the sender learns of it", testReceiverCloses},
		{"flush drops what is held", testFlush},
		{"both ends count", testStats},
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

const some = 120

func testOrder(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	result := make(chan error, 1)
	go func() {
		err := e.send(ctx, w, 0, some)
		result <- errors.Join(err, w.Close())
	}()
	for n := range some {
		a, err := r.Read(ctx)
		if err != nil {
			t.Fatalf("read %d: %v", n, err)
		}
		e.check(t, n, a)
	}
	for range 2 {
		if _, err := r.Read(ctx); err != io.EOF {
			t.Fatalf("after the last: %v, want the end", err)
		}
	}
	if err := <-result; err != nil {
		t.Fatal("sender:", err)
	}
	if _, open := <-w.Events(); open {
		t.Error("events still open after the hop's end")
	}
}

func testEventsFlowing(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	if err := e.send(ctx, w, 0, 3); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		a, err := r.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e.check(t, n, a)
	}
	want := connectors.Event{Kind: connectors.Fault, Text: "the speaker is gone"}
	if err := r.Signal(want); err != nil {
		t.Fatal(err)
	}
	if got := e.event(t, w); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := e.send(ctx, w, 3, 4); err != nil {
		t.Fatal(err)
	}
	a, err := r.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e.check(t, 3, a)
}

func (Ends) event(t *testing.T, w connectors.Writer) connectors.Event {
	t.Helper()
	select {
	case got, ok := <-w.Events():
		if !ok {
			t.Fatal("events closed")
		}
		return got
	case <-time.After(patience):
		t.Fatal("no event")
	}
	return connectors.Event{}
}

// block writes until the hop has taken nothing for a while; it reports how many went in, and what ended it.
func (e Ends) block(ctx context.Context, w connectors.Writer) (sent chan int, result chan error) {
	sent, result = make(chan int, 1<<20), make(chan error, 1)
	go func() {
		for n := 0; ; n++ {
			a := e.ADU(n)
			if !e.Media {
				a.Payload = make([]byte, 64<<10) // fills what the kernel holds soon
			}
			if err := w.Write(ctx, a); err != nil {
				result <- err
				return
			}
			sent <- n
		}
	}()
	return sent, result
}

// testManyEvents signals far more than the bound while nobody takes them: the newest are kept, and data still flows.
func testManyEvents(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	const last = 50 * connectors.MaxEvents
	for n := range last + 1 {
		if err := r.Signal(connectors.Event{Kind: connectors.Fault, Text: strconv.Itoa(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.send(ctx, w, 0, 1); err != nil {
		t.Fatal(err)
	}
	a, err := r.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e.check(t, 0, a)
	for before := -1; before < last; {
		n, err := strconv.Atoi(e.event(t, w).Text)
		if err != nil || n <= before {
			t.Fatalf("event %d after %d, %v", n, before, err)
		}
		before = n
	}
}

// full waits until the writer has made no progress for a moment, and says how many were written.
func full(t *testing.T, sent chan int) int {
	t.Helper()
	n := 0
	for {
		select {
		case <-sent:
			n++
		case <-time.After(300 * time.Millisecond):
			return n
		}
		if n > 100_000 {
			t.Fatal("the hop takes everything: no back pressure")
		}
	}
}

func testEventsBlocked(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	sent, result := e.block(ctx, w)
	if !e.Media {
		full(t, sent)
	} else {
		<-sent
	}
	want := connectors.Event{Kind: connectors.Fault, Text: "stop"}
	if err := r.Signal(want); err != nil {
		t.Fatal(err)
	}
	if got := e.event(t, w); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("the blocked write ended with %v", err)
	}
}

func testBackPressure(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	sent, result := e.block(ctx, w)
	if e.Media { // the media's own time holds the sender back
		begin := time.Now()
		for range some {
			<-sent
		}
		span := e.ADU(some).MediaTime - 100*time.Millisecond
		if took := time.Since(begin); took < span {
			t.Errorf("%d ADUs left in %v, their media takes %v more", some, took, span)
		}
	} else {
		n := full(t, sent)
		for range n + 1 {
			if _, err := r.Read(ctx); err != nil {
				t.Fatal(err)
			}
		}
		<-sent // it goes on
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("the blocked write ended with %v", err)
	}
}

func testDeadlines(t *testing.T, e Ends) {
	w, r := e.join(t)
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := r.Read(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("read: %v, want its deadline", err)
	}
	ctx := within(t)
	if err := e.send(ctx, w, 0, 1); err != nil {
		t.Fatal(err)
	}
	a, err := r.Read(ctx)
	if err != nil {
		t.Fatal("read after a read that timed out:", err)
	}
	e.check(t, 0, a)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	p, err := e.Listen.Listen(ctx, e.listening())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Accept(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("accept: %v, want its context's end", err)
	}
}

func testSenderCloses(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	if err := e.send(ctx, w, 0, 2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Fatal("close:", err)
		}
	}
	if err := w.Write(ctx, e.ADU(2)); !errors.Is(err, connectors.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	for n := range 2 {
		a, err := r.Read(ctx)
		if err != nil {
			t.Fatal("what was written before the close is lost:", err)
		}
		e.check(t, n, a)
	}
	if _, err := r.Read(ctx); err != io.EOF {
		t.Errorf("got %v, want the end", err)
	}
}

func testNothingSent(t *testing.T, e Ends) {
	w, r := e.join(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err := r.Read(within(t)); err != io.EOF {
		t.Errorf("got %d bytes, %v; want the end", len(a.Payload), err)
	}
}

func testReceiverCloses(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	sent, result := e.block(ctx, w)
	<-sent
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal("close:", err)
		}
	}
	if err := <-result; !errors.Is(err, connectors.ErrClosed) {
		t.Errorf("write after the receiver closed: %v", err)
	}
	if _, err := r.Read(ctx); !errors.Is(err, connectors.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	if err := r.Signal(connectors.Event{Kind: connectors.Flush}); !errors.Is(err, connectors.ErrClosed) {
		t.Errorf("signal after close: %v", err)
	}
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error("the sender closes a hop that is closed:", err)
		}
	}
}

func testFlush(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	if err := e.send(ctx, w, 0, 10); err != nil {
		t.Fatal(err)
	}
	if err := r.Signal(connectors.Event{Kind: connectors.Flush}); err != nil {
		t.Fatal(err)
	}
	if got := e.event(t, w); got.Kind != connectors.Flush {
		t.Fatalf("got %+v, want the flush", got)
	}
	if err := e.send(ctx, w, 10, 12); err != nil {
		t.Fatal(err)
	}
	for n := 10; n < 12; n++ {
		a, err := r.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Payload, e.ADU(n).Payload) {
			t.Fatalf("after the flush ADU %d came, want %d: what was held is not dropped", a.Seq-1, n)
		}
	}
}

func testStats(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	size := 0
	for n := range 5 {
		a := e.ADU(n)
		size += len(a.Payload)
		if err := w.Write(ctx, a); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for name, end := range map[string]any{"sender": w, "receiver": r} {
		m, ok := end.(connectors.Measured)
		if !ok {
			t.Fatalf("the %s does not measure itself", name)
		}
		s := m.Stats()
		if s.ADUs != 5 || s.Bytes != uint64(size) || s.Lost != 0 || s.Late != 0 {
			t.Errorf("%s: %+v, want 5 ADUs of %d bytes and no loss", name, s, size)
		}
	}
}

func testRefused(t *testing.T, e Ends) {
	ctx := within(t)
	p, err := e.Listen.Listen(ctx, e.listening())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	other, err := connectors.ParseAddress(e.Dial.Scheme(), p.Address())
	if err != nil {
		t.Fatal(err)
	}
	other.Stream[5] ^= 1
	old, wrong := e.dialing(), e.dialing()
	old.Epoch--
	wrong.Type = connectors.MustType("audio/L16;channels=2;rate=8000")
	for name, try := range map[string]struct {
		address string
		hop     connectors.Hop
	}{
		"another stream": {other.String(), e.dialing()},
		"an old epoch":   {p.Address(), old},
		"another type":   {p.Address(), wrong},
	} {
		if _, err := e.Dial.Dial(ctx, try.address, try.hop); !errors.Is(err, connectors.ErrRefused) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	// Refusals do not use up the hop, success does.
	w, err := e.Dial.Dial(ctx, p.Address(), e.dialing())
	if err != nil {
		t.Fatal("the right sender after the wrong ones:", err)
	}
	r, err := p.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dial.Dial(ctx, p.Address(), e.dialing()); !errors.Is(err, connectors.ErrRefused) {
		t.Errorf("a second sender: %v, want a refusal", err)
	}
	r.Close()
	w.Close()
}

func testStranger(t *testing.T, e Ends) {
	if e.Stranger == nil {
		return // everybody inside a process is the same principal
	}
	ctx := within(t)
	p, err := e.Listen.Listen(ctx, e.listening())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := e.Stranger.Dial(ctx, p.Address(), e.dialing()); !errors.Is(err, connectors.ErrRefused) {
		t.Errorf("a stranger dials: %v, want a refusal", err)
	}
	h := e.dialing()
	h.Peer = "spiffe://test/proxy/impostor"
	if _, err := e.Dial.Dial(ctx, p.Address(), h); err == nil {
		t.Error("the receiving end is not who the sender wanted, and the dial succeeds")
	}
}

func testTooLarge(t *testing.T, e Ends) {
	w, _ := e.join(t)
	if err := w.Write(within(t), connectors.ADU{Payload: make([]byte, connectors.MaxPayload+2)}); err == nil {
		t.Error("an ADU beyond the bound is taken")
	}
}

func testGiveUp(t *testing.T, e Ends) {
	ctx := within(t)
	p, err := e.Listen.Listen(ctx, e.listening())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.Dial.Dial(ctx, p.Address(), e.dialing()); !errors.Is(err, connectors.ErrRefused) {
		t.Errorf("dialing what was given up: %v, want a refusal", err)
	}
	// A sender that came and was never accepted learns of it.
	if p, err = e.Listen.Listen(ctx, e.listening()); err != nil {
		t.Fatal(err)
	}
	w, err := e.Dial.Dial(ctx, p.Address(), e.dialing())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	for range w.Events() { // closed with the hop
	}
	if err := w.Write(ctx, e.ADU(0)); err == nil {
		t.Error("a hop that nobody accepted takes ADUs")
	}
	w.Close()
}

// rounds is how many hops come and go.
const rounds = 50

func testRounds(t *testing.T, e Ends) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	round := func(n int) {
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
		if err := e.send(ctx, w, 0, 2); err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 { // either end may leave first
			r.Close()
			w.Close()
		} else {
			w.Close()
			r.Close()
		}
	}
	round(0)
	goroutines, files := runtime.NumGoroutine(), openFiles()
	for n := range rounds {
		round(n)
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // a server's end of a session goes a little later
		g, f := runtime.NumGoroutine(), openFiles()
		if g <= goroutines && f <= files {
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("after %d rounds %d goroutines and %d open files, before %d and %d", rounds, g, f, goroutines, files)
		}
	}
}

// openFiles counts the process's descriptors; 0 where the system does not list them.
func openFiles() int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(all)
}
