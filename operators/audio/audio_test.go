package audio

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"ninja/connectors"
)

func TestWAV(t *testing.T) {
	f, samples := Format{Rate: 22050, Channels: 2}, []int16{1, -2, 300, -32768, 32767, 0}
	wav := WAV(f, samples)
	claim := func(n uint32) []byte {
		b := bytes.Clone(wav)
		binary.LittleEndian.PutUint32(b[40:], n)
		return b
	}
	withList := slices.Concat(wav[:36], []byte("LIST\x03\x00\x00\x00abc\x00"), wav[36:])
	for name, b := range map[string][]byte{"ours": wav, "pipe": claim(0x7ffff000), "never filled in": claim(0), "with a list": withList} {
		g, got, err := ParseWAV(b)
		if err != nil || g != f || !slices.Equal(got, samples) {
			t.Errorf("%s: %v %v %v", name, g, got, err)
		}
	}
	mu := bytes.Clone(wav)
	mu[20], mu[34] = 7, 8
	if _, got, err := ParseWAV(mu); err != nil || len(got) != 12 || got[1] != -32124 {
		t.Errorf("mu-law: %v %v", got, err)
	}
	for _, bad := range [][]byte{nil, wav[:30], wav[:36], []byte("RIFF....WAVEdata"), bytes.Replace(wav, []byte("fmt "), []byte("fmx "), 1)} {
		if _, _, err := ParseWAV(bad); err == nil {
			t.Errorf("%q is taken for a WAV", bad)
		}
	}
}

func FuzzParseWAV(f *testing.F) {
	f.Add(WAV(Format{8000, 1}, []int16{1, 2, 3}))
	f.Add([]byte("RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		format, samples, err := ParseWAV(b)
		if err == nil && (format.Channels < 1 || format.Rate < MinRate || len(samples) > len(b)) {
			t.Errorf("%v, %d samples of %d bytes", format, len(samples), len(b))
		}
	})
}

func TestSmallOperators(t *testing.T) {
	mono, stereo := "audio/L16;rate=8000;channels=1", "audio/L16;rate=8000;channels=2"
	for _, tc := range []struct {
		program, in, out string
		args             map[string]string
		give, want       []byte
	}{
		{"channels", stereo, mono, nil, Payload(nil, []int16{10, 20, -30, -50}), Payload(nil, []int16{15, -40})},
		{"channels", mono, stereo, nil, Payload(nil, []int16{7, -8}), Payload(nil, []int16{7, 7, -8, -8})},
		{"gain", mono, mono, map[string]string{"db": "20"}, Payload(nil, []int16{100, -4000, 1}), Payload(nil, []int16{1000, -32768, 10})},
		{"swap-bytes", mono, "audio/x-s16le;rate=8000;channels=1", nil, []byte{1, 2, 3, 4, 5}, []byte{2, 1, 4, 3}},
		{"l16-to-l8", mono, "audio/L8;rate=8000;channels=1", nil, Payload(nil, []int16{0, 32767, -32768, 256}), []byte{128, 255, 0, 129}},
		{"l8-to-l16", "audio/L8;rate=8000;channels=1", mono, nil, []byte{128, 255, 0}, Payload(nil, []int16{0, 127 << 8, -32768})},
	} {
		at := 5 * time.Second
		got := runOperator(t, tc.program, tc.in, tc.out, tc.args, connectors.ADU{Payload: tc.give, MediaTime: at, Mark: connectors.EndOfUtterance})
		if len(got) != 1 || !bytes.Equal(got[0].Payload, tc.want) || got[0].MediaTime != at || got[0].Mark != connectors.EndOfUtterance {
			t.Errorf("%s: %v, want %v", tc.program, got, tc.want)
		}
	}
}

func TestWAVOperatorsAreInverse(t *testing.T) {
	typ, wav := "audio/L16;rate=8000;channels=1", "audio/vnd.wave;rate=8000;channels=1"
	samples := tone(8000, 440, 10000, 400)
	docs := runOperator(t, "wav-write", typ, wav, nil, connectors.ADU{Payload: Payload(nil, samples[:160])},
		connectors.ADU{Payload: Payload(nil, samples[160:]), Mark: connectors.EndOfUtterance})
	if len(docs) != 1 || docs[0].Mark != connectors.EndOfDocument {
		t.Fatalf("%d documents", len(docs))
	}
	var back []int16
	adus := runOperator(t, "wav-read", wav, typ, nil, docs...)
	for _, a := range adus {
		back = Samples(back, a.Payload)
	}
	if !slices.Equal(back, samples) || len(adus) != 3 || adus[2].Mark != connectors.EndOfUtterance || adus[2].MediaTime != 40*time.Millisecond {
		t.Errorf("%d samples in %d ADUs came back", len(back), len(adus))
	}
}

func TestLevel(t *testing.T) {
	if got := Level(tone(8000, 400, 32767, 8000)); got != "peak -0.0 dB, mean -3.0 dB" {
		t.Errorf("a full tone: %s", got)
	}
	if got := Level(make([]int16, 10)); !strings.Contains(got, "mean -99.0 dB") {
		t.Errorf("silence: %s", got)
	}
}

// room is noise of a level, with bursts of tone at the given seconds, each 0.6 s.
func room(noise float64, seconds float64, bursts ...float64) []int16 {
	rng := rand.New(rand.NewPCG(3, 4))
	out := make([]int16, int(seconds*16000))
	for i := range out {
		out[i] = int16(rng.NormFloat64() * noise)
	}
	for _, at := range bursts {
		for i, v := range tone(16000, 700, 8000, 9600) {
			out[int(at*16000)+i] += v
		}
	}
	return out
}

// Utterances are found in silence and in noise, whole, with what came before them, and no later than 0.4 s after them.
func TestEndpointer(t *testing.T) {
	for _, noise := range []float64{0, 3, 60, 250} {
		sound := room(noise, 8, 1.5, 4.5)
		e := NewEndpointer(EndpointConfig{})
		var ends []float64
		var all []Utterance
		for at := 0; at < len(sound); at += 320 {
			for _, u := range e.Push(sound[at:min(at+320, len(sound))]) {
				all, ends = append(all, u), append(ends, float64(at+320)/16000)
			}
		}
		if len(all) != 2 {
			t.Errorf("noise %v: %d utterances, want 2", noise, len(all))
			continue
		}
		for i, began := range []float64{1.5, 4.5} {
			finished := began + 0.6
			if late := ends[i] - finished; late < 0.25 || late > 0.4 {
				t.Errorf("noise %v: the end of utterance %d was seen %.2f s after it", noise, i, late)
			}
			length := float64(len(all[i].Samples)) / 16000
			if before := length - (ends[i] - began); before < 0.4 || before > 0.75 {
				t.Errorf("noise %v: utterance %d has %.2f s before its beginning, want about 0.5", noise, i, before)
			}
		}
	}
}

func TestEndpointerHearsNothingInNoiseAndClicks(t *testing.T) {
	for _, noise := range []float64{0, 5, 200, 1500} {
		sound := room(noise, 6)
		for _, at := range []int{30000, 50000} {
			for i := range 160 { // 10 ms
				sound[at+i] = 20000 * int16(1-2*(i%2))
			}
		}
		e := NewEndpointer(EndpointConfig{})
		if got := e.Push(sound); len(got) != 0 || e.Speaking() {
			t.Errorf("noise %v: %d utterances of nobody", noise, len(got))
		}
	}
}

// A room that becomes noisy is followed within seconds: speech in it is found then.
func TestEndpointerFollowsTheRoom(t *testing.T) {
	sound := slices.Concat(room(3, 3), room(150, 6, 4.5))
	e := NewEndpointer(EndpointConfig{})
	got := e.Push(sound)
	if u, ok := e.End(); ok {
		got = append(got, u)
	}
	last := got[len(got)-1]
	if end := float64(last.End) / 16000; end < 8.0 || end > 8.2 || len(got) > 2 {
		t.Errorf("%d utterances, the last one ends at %.2f s, want 8.1", len(got), end)
	}
}

func TestEndpointerCutsTheEndless(t *testing.T) {
	e := NewEndpointer(EndpointConfig{MaxLength: time.Second})
	sound := slices.Concat(room(0, 1), tone(16000, 700, 8000, 48000))
	for _, u := range e.Push(sound) {
		if len(u.Samples) > 16000 {
			t.Errorf("an utterance of %d samples, want a second at most", len(u.Samples))
		}
	}
	if u, _ := NewEndpointer(EndpointConfig{}).End(); u.Samples != nil {
		t.Error("an utterance of nothing")
	}
}
