//go:build opus && cgo

package audio

import (
	"strconv"
	"testing"
	"time"

	"ninja/connectors"
)

// What is encoded and decoded again is the sound that it was, in packets of 20 ms.
func TestOpusThereAndBack(t *testing.T) {
	for _, f := range []Format{{16000, 1}, {48000, 2}, {8000, 1}} {
		l16 := connectors.MakeType("audio/L16", connectors.Param{Name: "rate", Value: strconv.Itoa(f.Rate)}, connectors.Param{Name: "channels", Value: strconv.Itoa(f.Channels)}).String()
		sound := Mix(nil, voice(f.Rate, 2), 1, f.Channels)
		var adus []connectors.ADU
		for at, cut := 0, f.Rate/37*f.Channels; at < len(sound); at += cut { // pieces that are no packets
			adus = append(adus, connectors.ADU{Payload: Payload(nil, sound[at:min(at+cut, len(sound))]), MediaTime: f.Duration(int64(at / f.Channels))})
		}
		adus[len(adus)-1].Mark = connectors.EndOfUtterance
		encoded := runOperator(t, "opus-encode", l16, "audio/opus;channels=1;rate=48000", nil, adus...)
		size := 0
		for i, a := range encoded {
			size += len(a.Payload)
			if a.MediaTime != time.Duration(i)*20*time.Millisecond || connectors.OpusTime(a.Payload) != 20*time.Millisecond {
				t.Errorf("packet %d at %v lasts %v", i, a.MediaTime, connectors.OpusTime(a.Payload))
			}
		}
		if last := encoded[len(encoded)-1]; last.Mark != connectors.EndOfUtterance {
			t.Error("the mark is lost")
		}
		if rate := 8 * size / 2; rate > 30000 {
			t.Errorf("%d bits a second, want 24,000", rate)
		}
		var back []int16
		for _, a := range runOperator(t, "opus-decode", "audio/opus;channels=1;rate=48000", l16, nil, encoded...) {
			back = Samples(back, a.Payload)
		}
		if like := alike(f, voice(f.Rate, 2), left(back, f.Channels)); like < 0.9 {
			t.Errorf("%v: %.3f of the sound came back", f, like)
		}
	}
}

func BenchmarkOpusEncode20ms(b *testing.B) {
	f := Format{16000, 1}
	e, err := NewOpusEncoder(f, 24000, 10)
	if err != nil {
		b.Fatal(err)
	}
	sound := voice(f.Rate, 2)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := i % 100 * f.Chunk()
		if _, err := e.Encode(sound[at : at+f.Chunk()]); err != nil {
			b.Fatal(err)
		}
	}
}
