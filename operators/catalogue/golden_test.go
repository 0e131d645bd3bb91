package catalogue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	stdimage "image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pion/opus/pkg/oggreader"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
	"ninja/operators/speech"
)

// recogniserPath is the child program as TestMain built it.
var recogniserPath string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "recognise")
	if err == nil {
		recogniserPath = filepath.Join(dir, "ninja-recognise")
		var flags []byte
		flags, err = exec.Command("pkg-config", "--cflags", "--libs", "pocketsphinx", "sphinxbase").Output()
		if err == nil {
			args := append([]string{"-std=gnu11", "-O2", "-o", recogniserPath, "../speech/engine/recognise.c"}, strings.Fields(string(flags))...)
			err = exec.Command("gcc", args...).Run()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the recogniser (gcc, pkg-config, libpocketsphinx-dev, pocketsphinx-en-us):", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// hop is both ends of an operator under test; its input is what was given, then the end.
type hop struct {
	in     []connectors.ADU
	out    []connectors.ADU
	events chan connectors.Event
}

func (h *hop) Read(context.Context) (connectors.ADU, error) {
	if len(h.in) == 0 {
		return connectors.ADU{}, io.EOF
	}
	a := h.in[0]
	h.in = h.in[1:]
	return a, nil
}
func (h *hop) Write(_ context.Context, a connectors.ADU) error { h.out = append(h.out, a); return nil }
func (h *hop) Events() <-chan connectors.Event                 { return h.events }
func (h *hop) Signal(connectors.Event) error                   { return nil }
func (h *hop) Close() error                                    { return nil }

// offers are types that things offer; every operator accepts one of them.
var offers = []string{
	"audio/PCMU;channels=1;rate=8000", "audio/PCMA;channels=1;rate=8000", "audio/L16;channels=1;rate=16000", "audio/L16;channels=2;rate=16000",
	"audio/L8;channels=1;rate=8000", "audio/x-s16le;channels=1;rate=8000", "audio/vnd.wave;channels=1;rate=8000",
	"application/xml;about=directions;form=answer;lang=en", "text/html;lang=en", "text/markdown;lang=en", "text/csv;lang=en", "text/t140;lang=en",
	"text/plain;about=x;charset=iso-8859-1;eol=crlf;lang=en", "text/plain;lang=en-gb", "text/plain;lang=de", "text/plain;lang=fr", "text/plain;lang=es",
	"text/plain;lang=it", "image/png", "image/jpeg", "image/gif",
	"audio/opus;channels=1;rate=48000", "audio/opus;channels=2;rate=48000",
}

// wants decides what an output pattern leaves open.
var wants = map[string]string{"rate": "8000", "width": "40", "limit": "40", "about": "address",
	"grammar": "map@sha256:0000000000000000000000000000000000000000000000000000000000000000"}

// types finds ground types for an operator by the unifier, as the planner does.
func types(t testing.TB, s operators.Spec) (in, out connectors.Type) {
	t.Helper()
	// The want: the output's own media type with what is open in it decided.
	var params []string
	for _, name := range []string{"rate", "width", "limit", "about", "grammar"} {
		if p := s.Out.Param(name); strings.HasPrefix(p, "$") && (s.In.Param(name) == "" || s.In.Param(name) != p) {
			params = append(params, ";"+name+"="+wants[name])
		}
	}
	want := operators.MustPattern(s.Out.Media() + strings.Join(params, ""))
	for _, offer := range offers {
		hops, err := operators.Unify([]operators.Link{{Name: "offer", Out: operators.MustPattern(offer)}, s.Link(), {Name: "want", In: want}})
		if err == nil {
			return hops[0], hops[1]
		}
		var m *operators.Mismatch
		if !errors.As(err, &m) {
			t.Fatalf("%s from %s: %v", s.Name, offer, err)
		}
	}
	t.Fatalf("%s: accepts none of the types that things offer", s.Name)
	return
}

// input makes what a type says.
func input(t testing.TB, typ connectors.Type) []connectors.ADU {
	t.Helper()
	doc := func(s string) []connectors.ADU {
		return []connectors.ADU{{Payload: []byte(s), Mark: connectors.EndOfDocument | connectors.EndOfUtterance}}
	}
	top, sub, _ := strings.Cut(typ.Media(), "/")
	switch {
	case top == "image":
		return doc(string(picture(t, sub)))
	case typ.Media() == "audio/opus":
		return opusPackets(t, typ)
	case top == "audio":
		return sound(t, typ)
	case sub == "xml":
		return doc(`<answer xmlns="urn:ninja:answer:1" about="directions" lang="en" status="found"><heard>six fifteen</heard><say>Turn left 2 times.</say></answer>`)
	case sub == "html":
		return doc("<p>Turn left &amp; stop 2 times.</p>")
	}
	return doc("Turn left, 2 times.\r\n")
}

// opusPackets are what libopus made of two seconds of a voice, in one channel or two.
func opusPackets(t testing.TB, typ connectors.Type) (all []connectors.ADU) {
	t.Helper()
	name, each := "hybrid", 20*time.Millisecond
	if typ.Get("channels") == "2" {
		name, each = "celt", 10*time.Millisecond
	}
	b, err := os.ReadFile("../audio/testdata/" + name + ".opus")
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := oggreader.NewWith(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for {
		segments, _, err := r.ParseNextPage()
		if err != nil {
			all[len(all)-1].Mark = connectors.EndOfUtterance
			return all
		}
		for _, s := range segments {
			if !bytes.HasPrefix(s, []byte("OpusTags")) {
				all = append(all, connectors.ADU{Payload: bytes.Clone(s), MediaTime: time.Duration(len(all)) * each})
			}
		}
	}
}

// sound is an address, spoken, in the encoding of a type.
func sound(t testing.TB, typ connectors.Type) []connectors.ADU {
	t.Helper()
	file := filepath.Join(t.TempDir(), "speech.wav")
	cmd := exec.Command("flite", "-voice", "rms", "-t", "six fifteen main street", "-o", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("flite: %v %s", err, out)
	}
	wav, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, samples, err := audio.ParseWAV(wav)
	if err != nil {
		t.Fatal(err)
	}
	to, err := audio.FormatOf(typ)
	if err != nil {
		t.Fatal(err)
	}
	r, err := audio.NewResampler(f.Rate, to.Rate, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	samples = r.Process(nil, append(make([]int16, 8000), append(samples, make([]int16, 16000)...)...))
	samples = audio.Mix(nil, samples, 1, to.Channels)
	payload := audio.Payload(nil, samples)
	switch typ.Media() {
	case "audio/PCMU":
		payload = audio.MuLaw().Encode(payload)
	case "audio/PCMA":
		payload = audio.ALaw().Encode(payload)
	case "audio/L8":
		for i := range samples {
			payload[i] = byte(samples[i]>>8) + 128
		}
		payload = payload[:len(samples)]
	case "audio/x-s16le":
		for i := 0; i < len(payload); i += 2 {
			payload[i], payload[i+1] = payload[i+1], payload[i]
		}
	case "audio/vnd.wave":
		return []connectors.ADU{{Payload: audio.WAV(to, samples), Mark: connectors.EndOfDocument}}
	}
	width := len(payload) / len(samples)
	var all []connectors.ADU
	chunk := to.Chunk() * to.Channels * width
	for at := 0; at < len(payload); at += chunk {
		all = append(all, connectors.ADU{Payload: payload[at:min(at+chunk, len(payload))], MediaTime: to.Duration(int64(at / width / to.Channels))})
	}
	all[len(all)-1].Mark = connectors.EndOfUtterance
	return all
}

func picture(t testing.TB, format string) []byte {
	t.Helper()
	p := stdimage.NewRGBA(stdimage.Rect(0, 0, 80, 20))
	for i := range p.Pix {
		p.Pix[i] = byte(i) | 3
	}
	var b bytes.Buffer
	err := map[string]func() error{
		"png": func() error { return png.Encode(&b, p) }, "jpeg": func() error { return jpeg.Encode(&b, p, nil) },
		"gif": func() error { return gif.Encode(&b, p, nil) },
	}[format]()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// check says how the output of an operator differs from what its type says.
func check(typ connectors.Type, out []connectors.ADU) error {
	if len(out) == 0 {
		return errors.New("there is none")
	}
	var all []byte
	for _, a := range out {
		all = append(all, a.Payload...)
	}
	last := out[len(out)-1]
	top, sub, _ := strings.Cut(typ.Media(), "/")
	switch {
	case sub == "vnd.wave":
		f, _, err := audio.ParseWAV(all)
		if want, _ := audio.FormatOf(typ); err != nil || f != want {
			return fmt.Errorf("a WAV of %v (%v)", f, err)
		}
	case top == "audio":
		return checkSound(typ, out, all)
	case top == "image":
		return checkPicture(typ, all)
	case sub == "json":
		if !json.Valid(all) {
			return fmt.Errorf("%q is not JSON", all)
		}
	case sub == "html":
		if !bytes.HasPrefix(all, []byte("<!DOCTYPE html>")) || bytes.ContainsRune(all, '\r') {
			return fmt.Errorf("%q is no page", all)
		}
	default:
		return checkText(typ, string(all))
	}
	if last.Mark == 0 {
		return errors.New("the last ADU has no mark")
	}
	return nil
}

// checkSound decodes what it is and sees that it lasts and sounds as speech does.
func checkSound(typ connectors.Type, out []connectors.ADU, all []byte) error {
	f, err := audio.FormatOf(typ)
	if err != nil {
		return err
	}
	switch typ.Media() {
	case "audio/PCMU":
		all = audio.MuLaw().Decode(all)
	case "audio/PCMA":
		all = audio.ALaw().Decode(all)
	case "audio/L8":
		var wide []int16
		for _, b := range all {
			wide = append(wide, int16(b-128)<<8)
		}
		all = audio.Payload(nil, wide)
	case "audio/x-s16le":
		for i := 0; i < len(all); i += 2 {
			all[i], all[i+1] = all[i+1], all[i]
		}
	case "audio/opus":
		d, err := audio.NewOpusDecoder(f)
		if err != nil {
			return err
		}
		all = nil
		for _, a := range out {
			samples, err := d.Decode(a.Payload)
			if err != nil {
				return err
			}
			all = audio.Payload(all, samples)
		}
	}
	samples := audio.Samples(nil, all)
	seconds := f.Duration(int64(len(samples) / f.Channels)).Seconds()
	if seconds < 0.8 || seconds > 6 {
		return fmt.Errorf("%.1f s of sound", seconds)
	}
	var peak float64
	var mean float64
	if _, err := fmt.Sscanf(audio.Level(samples), "peak %f dB, mean %f dB", &peak, &mean); err != nil || mean > -8 || mean < -40 {
		return fmt.Errorf("%s: noise or silence", audio.Level(samples))
	}
	last := out[len(out)-1]
	if last.Mark != connectors.EndOfUtterance || last.MediaTime.Seconds() < seconds-0.1 {
		return fmt.Errorf("the last ADU is marked %v at %v of %.2f s", last.Mark, last.MediaTime, seconds)
	}
	return nil
}

func checkPicture(typ connectors.Type, b []byte) error {
	p, format, err := stdimage.Decode(bytes.NewReader(b))
	if err != nil || "image/"+format != typ.Media() {
		return fmt.Errorf("a picture of %s (%v)", format, err)
	}
	if w, err := strconv.Atoi(typ.Get("width")); err == nil && p.Bounds().Dx() != w {
		return fmt.Errorf("%v wide", p.Bounds())
	}
	if typ.Get("colour") == "grey" {
		r, g, b, _ := color.NRGBAModel.Convert(p.At(5, 5)).RGBA()
		if max(r, g, b)-min(r, g, b) > 0x1000 {
			return fmt.Errorf("a grey of %d %d %d", r>>8, g>>8, b>>8)
		}
	}
	return nil
}

func checkText(typ connectors.Type, s string) error {
	wrong := false
	switch {
	case typ.Get("about") == "address":
		wrong = s != "six fifteen main street"
	case typ.Get("about") == "heard":
		wrong = s != "six fifteen"
	case typ.Get("about") == "level":
		wrong = !strings.HasPrefix(s, "peak -")
	case typ.Get("case") == "upper":
		wrong = s != "TURN LEFT, 2 TIMES.\r\n"
	case typ.Get("case") == "lower":
		wrong = s != "turn left, 2 times.\r\n"
	case typ.Get("eol") == "lf":
		wrong = s != "Turn left, 2 times.\n"
	case typ.Get("numbers") == "words":
		wrong = !strings.Contains(s, "two times")
	case typ.Media() == "text/t140":
		wrong = !strings.HasSuffix(s, "times.\u2028")
	case typ.Media() == "text/vcard":
		wrong = !strings.HasPrefix(s, "BEGIN:VCARD\nVERSION:4.0\nFN:Ninja\nNOTE:Turn left")
	default:
		wrong = !strings.Contains(s, "Turn left") || !utf8.ValidString(s) || strings.Contains(s, "<")
	}
	if wrong {
		return fmt.Errorf("%q", s)
	}
	return nil
}

// Every operator, run on generated input of a type it accepts, makes what its output type says.
func TestEveryOperatorDoesWhatItsTypesSay(t *testing.T) {
	var r operators.Registry
	RegisterWith(&r, speech.Programs{Recogniser: recogniserPath})
	grammar := "#JSGF V1.0;\ngrammar a;\npublic <a> = six (fifteen | twelve) (main | maine) (street | road);"
	for _, s := range Specs() {
		t.Run(s.Name, func(t *testing.T) {
			in, out := types(t, s)
			args := make(map[string]string)
			for _, a := range s.Args {
				args[a.Name] = a.Value
			}
			op, err := r.Make(t.Context(), s.Program, operators.Env{World: world.Real(), In: in, Out: out, Args: args,
				Data: func(context.Context, string) ([]byte, error) { return []byte(grammar), nil }})
			if err != nil {
				t.Fatalf("%v to %v: %v", in, out, err)
			}
			h := &hop{in: input(t, in), events: make(chan connectors.Event)}
			if err := op.Run(t.Context(), h, h); err != nil {
				t.Fatalf("%v to %v: %v", in, out, err)
			}
			if err := check(out, h.out); err != nil {
				t.Errorf("%v to %v: %v", in, out, err)
			}
		})
	}
}

// The whole job of section 7.1, back and there again: what an answer says is spoken into a telephone, and what comes out
// of the telephone is recognised, word for word.
func TestAnswerSpokenThroughTelephoneIsHeard(t *testing.T) {
	var r operators.Registry
	RegisterWith(&r, speech.Programs{Recogniser: recogniserPath})
	byName := make(map[string]operators.Spec)
	for _, s := range Specs() {
		byName[s.Name] = s
	}
	names := []string{"answer-to-text", "speak-rms", "resample", "g711-mulaw-encode", "g711-mulaw-decode", "resample", "recognise"}
	chain := []operators.Link{{Name: "map", Out: operators.MustPattern("application/xml;about=address;form=answer;lang=en")}}
	for _, n := range names {
		s := byName[n]
		chain = append(chain, s.Link())
	}
	want := operators.MustPattern("text/plain;about=address;lang=en;grammar=" + wants["grammar"])
	hops, err := ground(chain, want)
	if err != nil {
		t.Fatal(err)
	}
	adus := []connectors.ADU{{Payload: []byte(`<answer xmlns="urn:ninja:answer:1" lang="en"><say>six fifteen main street.</say></answer>`), Mark: connectors.EndOfDocument}}
	grammar := "#JSGF V1.0;\ngrammar a;\npublic <a> = (six | nine) (fifteen | twelve) (main | chapel) (street | road);"
	for i, n := range names {
		s := byName[n]
		args := make(map[string]string)
		for _, a := range s.Args {
			args[a.Name] = a.Value
		}
		op, err := r.Make(t.Context(), s.Program, operators.Env{World: world.Real(), In: hops[i], Out: hops[i+1], Args: args,
			Data: func(context.Context, string) ([]byte, error) { return []byte(grammar), nil }})
		if err != nil {
			t.Fatal(err)
		}
		h := &hop{in: adus, events: make(chan connectors.Event)}
		if err := op.Run(t.Context(), h, h); err != nil {
			t.Fatalf("%s: %v", n, err)
		}
		adus = h.out
	}
	if len(adus) != 1 || string(adus[0].Payload) != "six fifteen main street" {
		t.Errorf("heard %+v", adus)
	}
}

// ground gives a chain its types when there is a telephone in it: the law runs at 8 kHz.
func ground(chain []operators.Link, want operators.Pattern) ([]connectors.Type, error) {
	phone := operators.Link{Name: "telephone", In: operators.MustPattern("audio/PCMU;rate=8000;channels=1"), Out: operators.MustPattern("audio/PCMU;rate=8000;channels=1")}
	to, err := operators.Unify(append(chain[:5:5], phone))
	if err != nil {
		return nil, err
	}
	from, err := operators.Unify(append(append([]operators.Link{phone}, chain[5:]...), operators.Link{Name: "map", In: want}))
	return append(to, from[1:]...), err
}
