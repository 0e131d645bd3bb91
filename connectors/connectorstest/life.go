package connectorstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ninja/connectors"
)

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

func testAbort(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx := within(t)
	if err := e.send(ctx, w, 0, 2); err != nil {
		t.Fatal(err)
	}
	abort(t, w, errors.New("the engine died"))
	checkAborted(ctx, t, r, "the engine died")
	if err := w.Write(ctx, e.ADU(2)); !errors.Is(err, connectors.ErrClosed) {
		t.Errorf("write after abort: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error("close after abort:", err)
	}
	for range w.Events() { // closed with the hop
	}
	// After the end of the stream there is nothing to break.
	w, r = e.join(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	abort(t, w, errors.New("too late"))
	if _, err := r.Read(ctx); err != io.EOF {
		t.Errorf("abort after close: %v, want the end", err)
	}
}

// testAbortFull breaks a hop whose reader does not read; then it reads what is left.
func testAbortFull(t *testing.T, e Ends) {
	w, r := e.join(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	sent, result := e.block(ctx, w)
	if !e.Media {
		full(t, sent)
	} else {
		<-sent
	}
	cancel()
	<-result
	begin := time.Now()
	abort(t, w, errors.New("given up"))
	if took := time.Since(begin); took > patience/4 {
		t.Errorf("the abort took %v", took)
	}
	checkAborted(within(t), t, r, "")
}

func abort(t *testing.T, w connectors.Writer, cause error) {
	t.Helper()
	a, ok := w.(connectors.Aborter)
	if !ok {
		t.Fatal("the sender cannot break its hop")
	}
	a.Abort(cause)
}

// checkAborted reads until the hop's end, which must not look like that of the stream; where the farewell got through it
// says the cause.
func checkAborted(ctx context.Context, t *testing.T, r connectors.Reader, cause string) {
	t.Helper()
	var err error
	for err == nil {
		_, err = r.Read(ctx)
	}
	if err == io.EOF || ctx.Err() != nil {
		t.Fatalf("a broken hop reads as %v", err)
	}
	if cause != "" && (!errors.Is(err, connectors.ErrAborted) || !strings.Contains(err.Error(), cause)) {
		t.Errorf("got %v, want the cause", err)
	}
	if _, again := r.Read(ctx); again == nil || again == io.EOF {
		t.Errorf("read again: %v", again)
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
	if wrong.Type = e.Other; wrong.Type.IsZero() {
		wrong.Type = connectors.MustType("audio/L16;channels=2;rate=8000")
	}
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

// rounds is how many hops come and go: 1,000 in make prove.
func rounds() int {
	if os.Getenv("NINJA_PROVE") != "" {
		return 1000
	}
	return 50
}

func testRounds(t *testing.T, e Ends) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(10+rounds()/20)*patience)
	defer cancel()
	if err := e.round(ctx, 0); err != nil {
		t.Fatal(err)
	}
	goroutines, files := runtime.NumGoroutine(), openFiles()
	n := rounds()
	begun := time.Now()
	if err := e.manyRounds(ctx, n); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // a server's end of a session goes a little later
		g, f := runtime.NumGoroutine(), openFiles()
		if g <= goroutines && f <= files {
			t.Logf("PROVE %s: after %d rounds in %v %d goroutines and %d descriptors, %d and %d before",
				t.Name(), n, took.Round(time.Millisecond), g, f, goroutines, files)
			return
		}
		if time.Since(begin) > patience {
			t.Fatalf("after %d rounds %d goroutines and %d open files, before %d and %d", n, g, f, goroutines, files)
		}
	}
}

// manyRounds makes n rounds, e.Abreast of them at a time.
func (e Ends) manyRounds(ctx context.Context, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var workers sync.WaitGroup
	for range max(e.Abreast, 1) {
		workers.Go(func() {
			for i := range next {
				if err := e.round(ctx, i); err != nil {
					cancel(fmt.Errorf("round %d: %w", i, err))
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// round makes a hop, sends by it and ends it.
func (e Ends) round(ctx context.Context, n int) error {
	p, err := e.Listen.Listen(ctx, e.listening())
	if err != nil {
		return err
	}
	defer p.Close()
	w, err := e.Dial.Dial(ctx, p.Address(), e.dialing())
	if err != nil {
		return err
	}
	defer w.Close()
	r, err := p.Accept(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := e.send(ctx, w, 0, 2); err != nil {
		return err
	}
	if n%2 == 0 { // either end may leave first
		r.Close()
		w.Close()
	} else {
		w.Close()
		r.Close()
	}
	return nil
}

// openFiles counts the process's descriptors; 0 where the system does not list them.
func openFiles() int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(all)
}
