package rtp

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtp"

	"ninja/connectors"
)

// What a Packer packs an Unpacker unpacks, whatever numbers they begin with, though packets are lost, doubled and out of
// order, over the wraps of both counters.
func TestPackAndUnpack(t *testing.T) {
	for _, typ := range []string{l16, "audio/PCMU;rate=8000", "audio/opus", "text/t140"} {
		f, err := FormatOf(connectors.MustType(typ))
		if err != nil {
			t.Fatal(err)
		}
		p := NewPacker(PackerConfig{Format: f, PayloadType: 77, SSRC: 9, Timestamp: 1<<32 - 1000, Sequence: 65500})
		u := NewUnpacker(UnpackerConfig{Format: f, PayloadType: 77})
		random := rand.New(rand.NewPCG(1, 2))
		payload := func(n int) []byte {
			if f.f.opus {
				return []byte{8, byte(n), byte(n >> 8)} // SILK, 20 ms
			}
			return bytes.Repeat([]byte{'a' + byte(n%26)}, 80)
		}
		got, lost := 0, 0
		now := at(0)
		take := func() {
			for {
				a, ok, _ := u.Take(now)
				if !ok {
					return
				}
				n := int(a.Seq) - 1
				if string(a.Payload) != missingText && !bytes.Equal(a.Payload, payload(n)) {
					t.Fatalf("%s: ADU %d: %q", typ, n, a.Payload)
				}
				got++
			}
		}
		var held *rtp.Packet
		for n := range 500 {
			now = at(time.Duration(n) * 20 * ms)
			err := p.Pack(now, connectors.ADU{Payload: payload(n), MediaTime: time.Duration(n) * 20 * ms}, func(q *rtp.Packet, wait time.Duration) error {
				if wait > 0 {
					t.Errorf("%s: a live source waits %v", typ, wait)
				}
				put := func(q *rtp.Packet) {
					if err := u.Put(&q.Header, q.Payload, now); err != nil {
						t.Fatal(err)
					}
				}
				switch {
				case n > 0 && random.IntN(20) == 0:
					lost++
				case n > 0 && held == nil && random.IntN(10) == 0:
					held = q
				default:
					put(q)
					put(q)
					if held != nil {
						put(held)
						held = nil
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			take()
		}
		now = now.Add(time.Second)
		take()
		if f.f.text {
			lost = 0 // what is repeated is not lost
		}
		if s := u.Stats(); got+lost < 498 || int(s.Lost) > lost {
			t.Errorf("%s: %d came of 500, %d dropped, %+v", typ, got, lost, s)
		}
		if err := u.Put(&rtp.Header{PayloadType: 77, SSRC: 8}, payload(0), now); err != ErrForeign {
			t.Errorf("%s: another SSRC: %v", typ, err)
		}
	}
}

// A source faster than real time is told to wait.
func TestPackerPaces(t *testing.T) {
	f, err := FormatOf(connectors.MustType("audio/PCMU;rate=8000"))
	if err != nil {
		t.Fatal(err)
	}
	p := NewPacker(PackerConfig{Format: f})
	var last time.Duration
	packets := 0
	err = p.Pack(at(0), connectors.ADU{Payload: make([]byte, 8000)}, func(_ *rtp.Packet, wait time.Duration) error {
		last = wait
		packets++
		return nil
	})
	if err != nil || packets != 7 || last != 900*ms-ahead {
		t.Errorf("%d packets, the last after %v, %v", packets, last, err)
	}
}

// FuzzUnpacker gives an Unpacker any packets.
func FuzzUnpacker(f *testing.F) {
	f.Add(uint16(1), uint32(160), []byte("abc"), uint8(0))
	f.Add(uint16(65535), uint32(1<<31), []byte{0x80 | ptT140, 0, 0, 0}, uint8(3))
	f.Fuzz(func(t *testing.T, sequence uint16, timestamp uint32, payload []byte, kind uint8) {
		typ := []string{l16, "audio/PCMU;rate=8000", "audio/opus", "text/t140"}[kind%4]
		format, _ := FormatOf(connectors.MustType(typ))
		u := NewUnpacker(UnpackerConfig{Format: format, Playout: ms, PlayoutMost: 100 * ms, Conceal: Repeat})
		for n := range 5 {
			h := rtp.Header{SequenceNumber: uint16(n) * sequence, Timestamp: uint32(n) * timestamp}
			u.Put(&h, bytes.Clone(payload), at(time.Duration(n)*ms))
		}
		for n := range 3000 {
			if _, ok, _ := u.Take(at(time.Hour)); !ok {
				return
			} else if n == 2999 {
				t.Fatal("five packets give ADUs without end")
			}
		}
	})
}
