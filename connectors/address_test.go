package connectors

import "testing"

func FuzzParseAddress(f *testing.F) {
	f.Add("tcp://127.0.0.1:7700/00112233445566778899aabbccddeeff")
	f.Add("tcp://[::1]:7700/00112233445566778899aabbccddeeff")
	f.Add("tcp://127.0.0.1/00112233445566778899AABBCCDDEEFF")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress("tcp", s)
		if err == nil && a.String() != s {
			t.Errorf("%q reads as %q", s, a.String())
		}
	})
}

func TestEventQueue(t *testing.T) {
	q := NewEventQueue()
	for i := range 2 * MaxEvents {
		q.Put(Event{Kind: Fault, Text: string(rune('a' + i))})
	}
	q.Close()
	q.Close()
	q.Put(Event{})
	first := <-q.C()
	if first.Text != string(rune('a'+MaxEvents)) {
		t.Errorf("the first event left is %q: want the oldest dropped", first.Text)
	}
	n := 1
	for range q.C() {
		n++
	}
	if n != MaxEvents {
		t.Errorf("%d events left, want %d", n, MaxEvents)
	}
}
