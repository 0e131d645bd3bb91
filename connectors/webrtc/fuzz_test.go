package webrtc

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"ninja/connectors"
)

func FuzzParams(f *testing.F) {
	p := params{ufrag: "abcdEFGH", password: "0123456789012345678901+/", ssrc: 7, sequence: 9, timestamp: 11,
		candidates: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:4000"), netip.MustParseAddrPort("[fd00::1]:4001")}}
	f.Add(p.String())
	f.Add("1 a b c")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseParams(s)
		if err != nil {
			return
		}
		if q, err := parseParams(p.String()); err != nil || q.String() != p.String() || len(p.candidates) > maxCandidates {
			t.Errorf("%q reads as %+v and that as %+v, %v", s, p, q, err)
		}
	})
}

// Whatever messages come, in whatever order, an ADU is bounded, and what was cut comes together again.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x03\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02hello"), 5)
	f.Add([]byte("\x01"), 40_000)
	f.Add([]byte("\x0b\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x09hello"), 7)
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		none := func() time.Duration { return 0 }
		a := assembler{link: none}
		for len(raw) > 0 {
			n := min(len(raw), 1+int(raw[0])%32)
			if adu, _, err := a.add(raw[:n]); err == nil && len(adu.Payload) > connectors.MaxPayload {
				t.Error("an ADU beyond the bound")
			}
			raw = raw[n:]
		}
		want := connectors.ADU{Payload: bytes.Repeat([]byte{7}, max(size, 0)%connectors.MaxPayload), Mark: connectors.EndOfDocument, Seq: 3, MediaTime: 4}
		b := assembler{link: none}
		var got connectors.ADU
		err := fragments(make([]byte, maxMessage), want, func(m []byte) (err error) {
			got, _, err = b.add(m)
			return err
		})
		if err != nil || !bytes.Equal(got.Payload, want.Payload) || got.Mark != want.Mark || got.Seq != 3 || got.MediaTime != 4 {
			t.Errorf("%d bytes come together as %d: %v", len(want.Payload), len(got.Payload), err)
		}
	})
}
