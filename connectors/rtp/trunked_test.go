package rtp

import (
	"bytes"
	"testing"
	"time"

	"ninja/connectors"
)

// FuzzOpenPlain gives a receiver on a trunk, where the trunk has proved who sends, any packet of that peer's: what is
// understood is of the stream, and the buffer comes to an end with it.
func FuzzOpenPlain(f *testing.F) {
	s, _ := pairOf(f, 7, telephone)
	f.Add(s.appendPlain(nil, packet{payload: make([]byte, 30)}))
	f.Add(s.appendPlain(nil, packet{mark: 1, stamp: &connectors.Stamp{Age: time.Second, Arrived: time.Now()}, payload: make([]byte, 30)}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, o := pairOf(t, 7, telephone)
		o.context = nil
		buffer := buffer{format: telephone, reorder: 40 * ms, conceal: func([]byte, int, int) []byte { return nil }}
		for range 2 {
			p, err := o.open(bytes.Clone(b))
			if err != nil {
				return
			}
			if len(p.payload) > len(b) || int64(p.position) < 0 {
				t.Fatalf("%+v", p)
			}
			buffer.put(p, at(0))
		}
		buffer.finish(buffer.known, at(0))
		for n := 0; ; n++ {
			if _, v, _ := buffer.take(at(time.Hour)); v == eof {
				return
			} else if n > 100_000 {
				t.Fatal("no end")
			}
		}
	})
}

// A stamp goes with its packet and does not touch its mark; a reader that knows nothing of it reads the same packet.
func TestExtensions(t *testing.T) {
	for _, p := range []packet{
		{mark: connectors.EndOfUtterance},
		{stamp: &connectors.Stamp{Age: time.Second, Arrived: time.Now().Add(-time.Second)}},
		{mark: connectors.EndOfFrame, stamp: &connectors.Stamp{Age: time.Second, Arrived: time.Now().Add(-time.Second)}},
	} {
		s, o := pairOf(t, 9, telephone)
		p.payload = []byte("abcd")
		b, err := s.seal(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := o.open(b)
		if err != nil || got.mark != p.mark || string(got.payload) != "abcd" || (got.stamp != nil) != (p.stamp != nil) {
			t.Fatalf("%+v, %v", got, err)
		}
		if got.stamp != nil && (got.stamp.Age < 2*time.Second || got.stamp.Age > time.Minute) {
			t.Errorf("it is %v old", got.stamp.Age)
		}
	}
}
