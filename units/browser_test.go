package units

import (
	"bytes"
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
	"ninja/operators/speech"
	"ninja/units/browsertest"
)

// desk is a browser unit at work, whose calls are joined to an other end that the test is.
type desk struct {
	*Browser
	url  string
	key  chan string
	made chan line
}

// line is the other end of a call: what the microphone says, and what the loudspeaker plays.
type line struct {
	from connectors.Reader
	to   connectors.Writer
}

func newDesk(t *testing.T, opus bool) *desk {
	d := &desk{key: make(chan string, 10), made: make(chan line, 1)}
	var registry operators.Registry
	cfg := BrowserConfig{
		Name: "desk <b>", Opus: opus, World: world.Real(), At: netip.MustParseAddr("127.0.0.1"), Link: func(key string) { d.key <- key },
		Call: func(ctx context.Context, tell func(kind, text string)) error { return d.join(ctx, t, &registry, tell) },
	}
	b, err := NewBrowser(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Browser = b
	b.Register(&registry)
	handler, err := b.Handler()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		server.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	d.url = server.URL
	return d
}

// join runs both ends of the unit until the call ends.
func (d *desk) join(ctx context.Context, t *testing.T, r *operators.Registry, tell func(kind, text string)) error {
	env := operators.Env{World: world.Real(), Note: func(string, string) {}}
	up, from := mem.Pair(16)
	to, down := mem.Pair(16)
	d.made <- line{from, to}
	ended := make(chan error, 2)
	run := func(program string, in connectors.Reader, out connectors.Writer, close func() error) {
		op, err := r.Make(ctx, program, env)
		if err == nil {
			err = op.Run(ctx, in, out)
		}
		close()
		ended <- err
	}
	go run("browser/microphone", nil, up, up.Close)
	go run("browser/speaker", down, nil, down.Close)
	tell("recognised", "fifteen <script>alert(1)</script> main street")
	err := <-ended
	if e := <-ended; err == nil {
		err = e
	}
	return err
}

// voice is a WAV file at 48 kHz: two seconds of silence, a second of a sound, and silence.
func voice(t *testing.T) string {
	samples := make([]int16, 48000*12)
	for i := 2 * 48000; i < 3*48000; i++ {
		samples[i] = int16(9000 * math.Sin(2*math.Pi*440*float64(i)/48000))
	}
	file := filepath.Join(t.TempDir(), "voice.wav")
	if err := os.WriteFile(file, audio.WAV(audio.Format{Rate: 48000, Channels: 1}, samples), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What a real browser's microphone hears comes out of the unit's microphone, what its loudspeaker is given sounds in the
// page, and a user who speaks silences it within 100 ms. All by keyboard.
func TestBrowserSpeaksAndHears(t *testing.T) {
	d := newDesk(t, false)
	b := browsertest.Start(t, voice(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b.Open(d.url + "/#" + <-d.key)
	b.Await(ctx, "document.readyState === 'complete' && !document.getElementById('talk').disabled")
	b.Key("Tab")
	b.Key("Enter")
	var call line
	select {
	case call = <-d.made:
	case <-ctx.Done():
		t.Fatal("no call; the page says: ", b.Text())
	}
	loudFor, media := hear(t, ctx, call.from)
	if (loudFor - time.Second).Abs() > 200*time.Millisecond {
		t.Errorf("the sound of 1 s is heard for %v", loudFor)
	}
	t.Logf("PROVE the unit hears %v of 1 s of sound in %v", loudFor, media)

	// The answer: a tone, until the user speaks.
	go drain(ctx, call.from)
	playing, stopPlaying := context.WithCancel(ctx)
	defer stopPlaying()
	played := make(chan struct{})
	go func() {
		defer close(played)
		answer(playing, call.to)
	}()
	b.Await(ctx, "meters.energy.answer > 0.01")
	checkStats(t, b)
	stopPlaying()
	<-played
	call.to.Close()
	b.Await(ctx, "told.some(m => m.kind === 'ended')")
	if text := b.Text(); !strings.Contains(text, "fifteen <script>alert(1)</script> main street") || !strings.Contains(text, "desk <b>") {
		t.Errorf("the page shows %s", text)
	}
	if file := os.Getenv("NINJA_SCREENSHOT"); file != "" {
		if err := os.WriteFile(file, b.Screenshot(), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// With opus the microphone speaks Opus, all of it, and nothing else.
func TestBrowserSpeaksOpus(t *testing.T) {
	d := newDesk(t, true)
	b := browsertest.Start(t, voice(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b.Open(d.url + "/#" + <-d.key)
	b.Await(ctx, "document.readyState === 'complete' && !document.getElementById('talk').disabled")
	if err := b.Eval("document.getElementById('talk').click()", nil); err != nil {
		t.Fatal(err)
	}
	var call line
	select {
	case call = <-d.made:
	case <-ctx.Done():
		t.Fatal("no call; the page says: ", b.Text())
	}
	decoder, err := audio.NewOpusDecoder(audio.Format{Rate: 16000, Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	var samples []int16
	loud := 0
	for packets := 0; loud < 16000 && packets < 500; packets++ {
		a, err := call.from.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if samples, err = decoder.Decode(a.Payload); err != nil {
			t.Fatal(err)
		}
		if sounds(samples) {
			loud += len(samples)
		}
	}
	t.Logf("PROVE the unit hears %v of 1 s of sound in Opus", time.Duration(loud)*time.Second/16000)
	if loud < 15000 {
		t.Errorf("%d loud samples at 16 kHz", loud)
	}
	if d := d.Description(operators.Node{}); d.Operators[0].Out.String() != wideType {
		t.Errorf("published as %v", d.Operators[0].Out)
	}
	call.to.Close()
	call.from.Close()
}

// hear reads until a second after the sound has ended and says how long it was.
func hear(t *testing.T, ctx context.Context, in connectors.Reader) (loudFor, media time.Duration) {
	law := audio.MuLaw()
	quiet := 0
	for loudFor == 0 || quiet < 25 {
		a, err := in.Read(ctx)
		if err != nil {
			t.Fatalf("after %v, %v of it loud: %v", media, loudFor, err)
		}
		length := time.Duration(len(a.Payload)) * time.Second / phoneRate
		if a.MediaTime < media-length {
			t.Errorf("media time goes back to %v after %v", a.MediaTime, media)
		}
		media = a.MediaTime
		if sounds(audio.Samples(nil, law.Decode(a.Payload))) {
			loudFor += length
			quiet = 0
		} else {
			quiet++
		}
	}
	return loudFor, media
}

// drain reads until the call ends.
func drain(ctx context.Context, in connectors.Reader) {
	for {
		if _, err := in.Read(ctx); err != nil {
			return
		}
	}
}

// answer writes a tone in packets until ctx ends; a flush stops it for good.
func answer(ctx context.Context, out connectors.Writer) {
	law := audio.MuLaw()
	tick := time.NewTicker(packetTime)
	defer tick.Stop()
	for n := 0; ; n++ {
		samples := make([]int16, packetSize)
		for i := range samples {
			samples[i] = int16(9000 * math.Sin(2*math.Pi*300*float64(n*packetSize+i)/phoneRate))
		}
		a := connectors.ADU{Payload: law.Encode(audio.Payload(nil, samples)), MediaTime: time.Duration(n) * packetTime}
		if out.Write(ctx, a) != nil {
			return
		}
		select {
		case <-tick.C:
		case e, ok := <-out.Events():
			if !ok || e.Kind == connectors.Flush {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// checkStats asks the browser itself what it has sent and received.
func checkStats(t *testing.T, b *browsertest.Browser) {
	var s struct{ Sent, Received, Lost, Energy float64 }
	err := b.Eval(`(async () => { const s = {};
		(await connection.getStats()).forEach(r => {
			if (r.type === "outbound-rtp") s.sent = r.packetsSent;
			if (r.type === "inbound-rtp") { s.received = r.packetsReceived; s.lost = r.packetsLost; s.energy = r.totalAudioEnergy; }
		}); return s; })()`, &s)
	if err != nil || s.Sent < 50 || s.Received < 5 || s.Energy <= 0 {
		t.Errorf("the browser's statistics: %+v, %v", s, err)
	}
	t.Logf("PROVE Chromium sent %v packets, received %v, lost %v, heard an energy of %.4f", s.Sent, s.Received, s.Lost, s.Energy)
}

// The user speaks while the answer is heard: the page is silent within 100 ms of the unit's knowing.
func TestBrowserBargeIn(t *testing.T) {
	d := newDesk(t, false)
	b := browsertest.Start(t, voice(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b.Open(d.url + "/#" + <-d.key)
	b.Await(ctx, "document.readyState === 'complete' && !document.getElementById('talk').disabled")
	if err := b.Eval("document.getElementById('talk').click()", nil); err != nil {
		t.Fatal(err)
	}
	var call line
	select {
	case call = <-d.made:
	case <-ctx.Done():
		t.Fatal("no call; the page says: ", b.Text())
	}
	go drain(ctx, call.from)
	stopped := make(chan time.Time, 1)
	go func() {
		answer(ctx, call.to)
		stopped <- time.Now()
	}()
	b.Await(ctx, "meters.watched.answer && meters.watched.answer.level > 0.1")
	// The page notes when it is muted; the time is compared within the page, against that of the unit's message.
	if err := b.Eval(`window.silent = new Promise(done => document.getElementById("answer").addEventListener("volumechange", e => { if (e.target.muted) done(performance.timeOrigin + performance.now()); }))`+"; 1", nil); err != nil {
		t.Fatal(err)
	}
	spoke := time.Now()
	if err := call.from.Signal(connectors.Event{Kind: speech.Onset}); err != nil {
		t.Fatal(err)
	}
	upstream := (<-stopped).Sub(spoke)
	var at float64
	if err := b.Eval("silent", &at); err != nil {
		t.Fatal(err)
	}
	page := time.UnixMicro(int64(at * 1000)).Sub(spoke)
	t.Logf("PROVE barge-in: the source is told after %v, the page is silent after %v", upstream, page)
	if page > time.Second || upstream > time.Second { // the promise is 100 ms; a test machine may be busy
		t.Errorf("silent after %v, told after %v", page, upstream)
	}
	call.from.Close()
	call.to.Close()
}

// A link holds once; without a tab's token nothing is answered, and what comes from elsewhere is refused.
func TestDoor(t *testing.T) {
	d := newDesk(t, false)
	key := <-d.key
	post := func(path, body string, header ...string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", d.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	if code, _ := post("/tab", `{"key":"`+key+`"}`, "Origin", "http://elsewhere.example", "Sec-Fetch-Site", "cross-site"); code != http.StatusForbidden {
		t.Errorf("from elsewhere: %d", code)
	}
	for _, bad := range []string{`{"key":""}`, `{"key":"` + key[1:] + `"}`, `{}`} {
		if code, text := post("/tab", bad); code != http.StatusForbidden || !strings.Contains(text, "new one") {
			t.Errorf("%s: %d %s", bad, code, text)
		}
	}
	if code, _ := post("/tab", strings.Repeat("x", 1000)); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a long request: %d", code)
	}
	code, text := post("/tab", `{"key":"`+key+`"}`)
	token := strings.Trim(strings.TrimPrefix(strings.TrimSpace(text), `{"token":`), `"}`)
	if code != http.StatusOK || len(token) < 40 {
		t.Fatalf("the key: %d %s", code, text)
	}
	if code, _ := post("/tab", `{"key":"`+key+`"}`); code != http.StatusForbidden {
		t.Errorf("the key again: %d", code)
	}
	if next := <-d.key; next == key {
		t.Error("the next key is the same")
	}
	for _, bad := range []string{"", "Bearer", "Bearer " + key, "Bearer " + token[1:]} {
		if code, _ := post("/offer", "v=0", "Authorization", bad); code != http.StatusForbidden {
			t.Errorf("an offer with %q: %d", bad, code)
		}
	}
	for _, bad := range []string{"", "v=0", strings.Repeat("a=x\r\n", 10_000)} {
		if code, text := post("/offer", bad, "Authorization", "Bearer "+token); code != http.StatusBadRequest || !strings.Contains(text, "WebRTC") {
			t.Errorf("an offer that is none: %d %s", code, text)
		}
	}
	if code, _ := post("/offer", strings.Repeat("x", 1<<20), "Authorization", "Bearer "+token); code != http.StatusRequestEntityTooLarge {
		t.Errorf("an offer of a megabyte: %d", code)
	}
	resp, err := http.Get(d.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, _ := io.ReadAll(resp.Body)
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || bytes.Contains(page, []byte("<b>")) {
		t.Errorf("%s\n%s", csp, page)
	}
}

// Whatever a page says on its channel, the unit lives.
func FuzzSaid(f *testing.F) {
	f.Add([]byte(`{"kind":"talk"}`))
	f.Add([]byte(`{"kind":"stop","text":"x"}`))
	b, err := NewBrowser(BrowserConfig{Name: "desk", World: world.Real()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		if !bytes.Contains(m, []byte("talk")) { // which needs a page that is connected
			b.said(&page{}, m)
		}
	})
}
