package connectorstest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"ninja/connectors"
)

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

func testStamp(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	const before = 5 * time.Second
	for n := range 3 {
		a := e.ADU(n)
		if n == 1 {
			a.Stamp = &connectors.Stamp{Age: before, Arrived: time.Now().Add(-before)} // it waited here for as long again
		}
		if err := w.Write(ctx, a); err != nil {
			t.Fatal(err)
		}
		got, err := r.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if has := got.Stamp != nil; has != (n == 1 && e.Stamped) {
			t.Fatalf("ADU %d has a stamp: %v", n, has)
		}
		if got.Stamp == nil {
			continue
		}
		if age := got.Stamp.Now(time.Now()); age < 2*before || age > 2*before+patience/4 {
			t.Errorf("it is %v old", age)
		}
	}
}

func testTooLarge(t *testing.T, e Ends) {
	w, _ := e.join(t)
	if err := w.Write(within(t), connectors.ADU{Payload: make([]byte, connectors.MaxPayload+2)}); err == nil {
		t.Error("an ADU beyond the bound is taken")
	}
}
