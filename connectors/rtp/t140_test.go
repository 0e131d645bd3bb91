package rtp

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

// typed is what somebody types, in pieces.
func typed() []string {
	return strings.SplitAfter(strings.Repeat("Wo ist die nächste Straße? 道はどこ。 ", 20), " ")
}

// textHop makes a hop of text over the link.
func textHop(t *testing.T, link world.Link) (connectors.Writer, connectors.Reader) {
	t.Helper()
	sim := world.NewSim(seed, link)
	p := connectorstest.Processes(t, ":7700", sim.Host("10.0.0.1"), sim.Host("10.0.0.2"), sim.Host("10.0.0.3"))
	e := ends(p, Config{})
	h := connectors.Hop{Path: "path", Name: "keys->screen", Type: connectors.MustType("text/t140"), Peer: e.Sender}
	pending, err := e.Listen.Listen(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	h.Peer = e.Receiver
	w, err := e.Dial.Dial(t.Context(), pending.Address(), h)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pending.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w, r
}

// RFC 4103: "the loss of up to two packets in a row" does not show; the last word comes though its packet is lost.
func TestTextIsRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		link    world.Link
		missing int
	}{
		"clean": {world.Link{Delay: 20 * ms, Jitter: 10 * ms}, 0},
		"lossy": {world.Link{Delay: 20 * ms, Jitter: 10 * ms, Loss: 0.1, Duplicate: 0.1}, 0},
		"worse": {world.Link{Delay: 20 * ms, Loss: 0.4}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := textHop(t, c.link)
				defer r.Close()
				go func() {
					for _, word := range typed() {
						if err := w.Write(t.Context(), connectors.ADU{Payload: []byte(word)}); err != nil {
							t.Error(err)
						}
						time.Sleep(200 * ms)
					}
					w.Close()
				}()
				var got bytes.Buffer
				for {
					a, err := r.Read(t.Context())
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					got.Write(a.Payload)
				}
				want := strings.Join(typed(), "")
				missing := strings.Count(got.String(), missingText)
				t.Logf("%d bytes of %d, %d gaps, %+v", got.Len(), len(want), missing, r.(connectors.Measured).Stats())
				if c.missing == 0 && got.String() != want || missing > c.missing {
					t.Errorf("%q", got.String())
				}
			})
		})
	}
}

// Text that nothing follows is repeated after 300 ms, twice, and then no more.
func TestTextIsRepeatedInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := textHop(t, world.Link{})
		defer r.Close()
		defer w.Close()
		if err := w.Write(t.Context(), connectors.ADU{Payload: []byte("hello")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		s := w.(*writer)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.position != 1+generations {
			t.Errorf("%d packets", s.position)
		}
	})
}

func TestCutText(t *testing.T) {
	text := []byte(strings.Repeat("道", 200))
	for rest := text; len(rest) > 0; {
		n := cutText(rest, maxBlock)
		if n == 0 || n > maxBlock || n%3 != 0 {
			t.Fatalf("cut at %d", n)
		}
		rest = rest[n:]
	}
}

// FuzzUnpack reads any payload; what redundancy packs is read as it was.
func FuzzUnpack(f *testing.F) {
	r := redundancy{payloadType: ptT140}
	for at, word := range typed()[:4] {
		f.Add(r.pack(nil, int64(at)*100, []byte(word)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		blocks, err := unpack(b, ptT140)
		if err != nil {
			return
		}
		r := redundancy{payloadType: ptT140}
		for _, old := range blocks[:len(blocks)-1] {
			r.recent = append(r.recent, block{old.time, old.text})
		}
		last := blocks[len(blocks)-1].text
		if again := r.pack(nil, 0, last); !bytes.Equal(again, b) {
			t.Errorf("%x was read and packed as %x", b, again)
		}
	})
}
