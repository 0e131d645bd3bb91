package hop

import (
	"bufio"
	"bytes"
	"testing"
	"time"

	"ninja/connectors"
)

// FuzzFrame reads any bytes as a session would; what is understood is said back in the same bytes.
func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, kindHello, hello{purpose: purposeHop, epoch: 3, scheme: "tcp", path: "p", name: "a->b", typ: "text/plain"}.append))
	f.Add(appendFrame(nil, kindHello, hello{purpose: purposeTrunk, epoch: 3}.append))
	f.Add(appendFrame(nil, kindHello, hello{purpose: purposeData, max: 4 << 20}.append))
	f.Add(appendFrame(nil, kindWelcome, welcome{status: WrongEpoch, text: "no"}.append))
	f.Add(appendADU(nil, connectors.ADU{Payload: []byte("hello"), Seq: 9, Mark: connectors.EndOfUtterance}))
	f.Add(appendNumber(nil, kindPing, 7))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, body, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		var again []byte
		switch k {
		case kindHello:
			h, err := parseHello(body)
			if err != nil {
				return
			}
			again = h.append(nil)
		case kindWelcome:
			w, err := parseWelcome(body)
			if err != nil {
				return
			}
			again = w.append(nil)
		case kindADU:
			a, err := parseADU(body)
			if err != nil {
				return
			}
			again = appendADU(nil, a)[headerSize:]
		default:
			again = body
		}
		if !bytes.Equal(again, body) {
			t.Errorf("kind %d: %x was read and said back as %x", k, body, again)
		}
	})
}

// FuzzHandle gives any frame to either end of a session: it is understood or refused, and what waits to be said stays
// bounded.
func FuzzHandle(f *testing.F) {
	f.Add(byte(kindEvent), append([]byte{1, 0, 0, 0, 1}, "speak"...), true)
	f.Add(byte(kindFlushed), make([]byte, 12), false)
	f.Add(byte(kindPong), make([]byte, 8), false)
	f.Add(byte(kindStamp), make([]byte, 8), false)
	f.Add(byte(kindCredit), make([]byte, 8), true)
	f.Add(byte(kindSent), make([]byte, 8), false)
	f.Add(byte(kindClosed), []byte("the engine died\xff"), false)
	f.Fuzz(func(t *testing.T, k byte, body []byte, sending bool) {
		s := &Session{finished: make(chan struct{}), start: time.Now()}
		s.control.ready = make(chan struct{}, 1)
		h := Handler{
			ADU: func(connectors.ADU) {}, Mark: func(connectors.Mark, uint64) {}, End: func(uint64) {}, Flushed: func(uint64) {},
			Sent: func(uint64) {},
		}
		if sending {
			h = Handler{Flush: func() uint64 { return 1 }, Event: func(connectors.Event) {}, Credit: func(uint64) {}, Report: func([]byte) {}}
		}
		for range 3 {
			s.handle(h, kind(k), body)
		}
		if n := len(s.control.take(nil)); n > 100 {
			t.Errorf("%d bytes to say", n)
		}
	})
}
