package external

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/operators/audio"
)

// These tests speak with programs that nobody here wrote: GStreamer and FFmpeg, as they are installed. In each direction a
// tone is sent, and its level and length are compared with what comes out.

// media is one kind of sound in the words of both programs.
type media struct {
	name, typ string
	rate      int
	pt        uint8
	ffmpeg    []string // encoder and payload type
	pay       string   // GStreamer: from raw sound to packets
	caps      string   // of the packets
	depay     string   // and back
}

func kinds() []media {
	return []media{
		{"PCMU", pcmu, 8000, 0, []string{"-c:a", "pcm_mulaw", "-ar", "8000"},
			"audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay", "encoding-name=PCMU,clock-rate=8000,payload=0", "rtppcmudepay ! mulawdec"},
		{"L16", "audio/L16;channels=1;rate=16000", 16000, 96, []string{"-c:a", "pcm_s16be", "-ar", "16000", "-payload_type", "96"},
			"audio/x-raw,format=S16BE,rate=16000,channels=1 ! rtpL16pay pt=96", "encoding-name=L16,clock-rate=16000,channels=1,payload=96", "rtpL16depay"},
		{"Opus", "audio/opus;channels=1;rate=48000", 48000, 111, []string{"-c:a", "libopus", "-ar", "48000", "-application", "voip", "-payload_type", "111"},
			"audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay pt=111", "encoding-name=OPUS,clock-rate=48000,payload=111", "rtpopusdepay ! opusdec"},
	}
}

// programs are both where promises are proven, else one for each kind: GStreamer for the one named, FFmpeg for the others.
func programs(m media, other string) []string {
	switch {
	case os.Getenv("NINJA_PROVE") == "1":
		return []string{"FFmpeg", "GStreamer"}
	case m.name == other:
		return []string{"GStreamer"}
	}
	return []string{"FFmpeg"}
}

const (
	toneFor   = 2 * time.Second
	toneLevel = 8000 // amplitude
)

// toneSamples are two seconds of 440 Hz at the rate.
func toneSamples(rate int) []int16 {
	samples := make([]int16, int(toneFor.Seconds())*rate)
	for i := range samples {
		samples[i] = int16(toneLevel * math.Sin(2*math.Pi*440*float64(i)/float64(rate)))
	}
	return samples
}

// tone is them as a WAV file.
func tone(t *testing.T, rate int) string {
	samples := toneSamples(rate)
	file := filepath.Join(t.TempDir(), "tone.wav")
	if err := os.WriteFile(file, audio.WAV(audio.Format{Rate: rate, Channels: 1}, samples), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// foreign is a program that runs.
type foreign struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *bytes.Buffer
}

func run(t *testing.T, name string, args ...string) *foreign {
	t.Helper()
	f := &foreign{t, exec.Command(name, args...), new(bytes.Buffer)}
	f.cmd.Stdout, f.cmd.Stderr = f.said, f.said
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := f.cmd.Start(); err != nil {
		t.Fatalf("%v (make checkers installs it)", err)
	}
	return f
}

// stop asks the program to end in order, as Ctrl-C does.
func (f *foreign) stop() {
	f.t.Helper()
	_ = f.cmd.Process.Signal(os.Interrupt)
	again := time.AfterFunc(500*time.Millisecond, func() { _ = f.cmd.Process.Signal(os.Interrupt) }) // FFmpeg waits for packets
	defer again.Stop()
	timer := time.AfterFunc(10*time.Second, func() { _ = f.cmd.Process.Kill() })
	defer timer.Stop()
	_ = f.cmd.Wait()
}

// loudness is what is measured of sound: the root mean square of what is not silence, and how long that lasts.
type loudness struct {
	level  float64
	length time.Duration
}

// measure measures pieces of 10 ms.
func measure(samples []int16, rate int) loudness {
	piece := rate / 100
	var l loudness
	sum, n := 0.0, 0
	for ; len(samples) >= piece; samples = samples[piece:] {
		energy := 0.0
		for _, s := range samples[:piece] {
			energy += float64(s) * float64(s)
		}
		if math.Sqrt(energy/float64(piece)) < 500 {
			continue
		}
		sum, n = sum+energy, n+piece
		l.length += 10 * time.Millisecond
	}
	if n > 0 {
		l.level = math.Sqrt(sum / float64(n))
	}
	return l
}

// compare compares with the tone: the level within 1 dB, the length within 150 ms (programs start and stop softly).
func (l loudness) compare(t *testing.T, what string) {
	t.Helper()
	db := 20 * math.Log10(l.level/(toneLevel/math.Sqrt2))
	if math.Abs(db) > 1 || (l.length-toneFor).Abs() > 150*time.Millisecond {
		t.Errorf("%s: %.2f dB off, %v long", what, db, l.length)
	}
	t.Logf("PROVE %s: level %+.2f dB, length %v of %v", what, db, l.length, toneFor)
}

// collect reads ADUs until the stream ends, by goodbye or silence.
func collect(ctx context.Context, t *testing.T, s *Session) (all []connectors.ADU) {
	t.Helper()
	for {
		a, err := s.Reader().Read(ctx)
		if err != nil {
			if len(all) == 0 || err != io.EOF && !strings.Contains(err.Error(), "nothing was heard") {
				t.Fatalf("after %d packets: %v", len(all), err)
			}
			return all
		}
		all = append(all, a)
	}
}

// decode makes samples of ADUs.
func (m media) decode(t *testing.T, all []connectors.ADU) []int16 {
	t.Helper()
	var samples []int16
	switch m.name {
	case "PCMU":
		law := audio.MuLaw()
		for _, a := range all {
			samples = audio.Samples(samples, law.Decode(append([]byte(nil), a.Payload...)))
		}
	case "L16":
		for _, a := range all {
			samples = audio.Samples(samples, a.Payload)
		}
	default:
		samples = decodeOpus(t, all, m.rate)
	}
	return samples
}

// speakers send a tone to an address.
func (m media) speakers(t *testing.T, to netip.AddrPort) map[string]func() *foreign {
	file := tone(t, m.rate)
	return map[string]func() *foreign{
		"FFmpeg": func() *foreign {
			args := append([]string{"-hide_banner", "-loglevel", "error", "-re", "-i", file}, m.ffmpeg...)
			return run(t, "ffmpeg", append(args, "-f", "rtp", "rtp://"+to.String())...)
		},
		"GStreamer": func() *foreign {
			return run(t, "gst-launch-1.0", strings.Fields(fmt.Sprintf("-q filesrc location=%s ! wavparse ! audioconvert ! audioresample ! %s ! udpsink host=%s port=%d",
				file, m.pay, to.Addr(), to.Port()))...)
		},
	}
}

// What GStreamer and FFmpeg send is heard: the same level, the same length.
func TestOthersSpeak(t *testing.T) {
	t.Parallel()
	for _, m := range kinds() {
		for _, name := range programs(m, "L16") {
			t.Run(name+" "+m.name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				s := open(t, newEdge(t, "127.0.0.1/32:1-65535"), Call{Type: connectors.MustType(m.typ), PayloadType: m.pt, Silence: time.Second})
				p := m.speakers(t, s.Addr())[name]()
				all := collect(ctx, t, s)
				p.stop()
				measure(m.decode(t, all), m.rate).compare(t, name+" says "+m.name)
			})
		}
	}
}

// hearers receive from a session at an address and write a WAV file.
func (m media) hearer(t *testing.T, name string, s *Session, at netip.AddrPort, file string) *foreign {
	if name == "FFmpeg" {
		sdp := filepath.Join(t.TempDir(), "in.sdp")
		if err := os.WriteFile(sdp, []byte(s.SDP(at)), 0o600); err != nil {
			t.Fatal(err)
		}
		return run(t, "ffmpeg", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,udp,rtp,crypto,srtp", "-i", sdp,
			"-ac", "1", "-ar", fmt.Sprint(m.rate), "-c:a", "pcm_s16le", "-flush_packets", "1", "-y", file)
	}
	return run(t, "gst-launch-1.0", strings.Fields(fmt.Sprintf(`-q -e rtpbin name=b latency=100 sdes=application/x-rtp-source-sdes,cname=(string)"%s" `+
		`udpsrc address=%[2]s port=%[3]d caps=application/x-rtp,media=audio,%[5]s ! b.recv_rtp_sink_0 `+
		`udpsrc address=%[2]s port=%[4]d ! b.recv_rtcp_sink_0 `+
		`b.send_rtcp_src_0 ! udpsink host=%[6]s port=%[7]d bind-address=%[2]s bind-port=%[4]d sync=false async=false `+
		`b. ! %[8]s ! audioconvert ! audioresample ! audio/x-raw,format=S16LE,rate=%[9]d,channels=1 ! wavenc ! filesink location=%[10]s`,
		s.Token(), at.Addr(), at.Port(), at.Port()+1, m.caps, s.Addr().Addr(), s.Addr().Port()+1, m.depay, m.rate, file))...)
}

// What we send is heard by GStreamer, which consents by its canonical name, and by FFmpeg, for which a helper does.
func TestOthersHear(t *testing.T) {
	t.Parallel()
	for _, m := range kinds() {
		for _, name := range programs(m, "PCMU") {
			t.Run(name+" "+m.name, func(t *testing.T) {
				t.Parallel()
				hearTone(t, m, name)
			})
		}
	}
}

func hearTone(t *testing.T, m media, name string, changes ...func(*Call)) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	at := freePair(t)
	rule := at.String() + " cname"
	if name == "FFmpeg" {
		helper, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		rule = fmt.Sprintf("%s consent=%d key=the-key-of-this-machine", at, addrOf(helper.LocalAddr()).Port())
		answering, stop := context.WithCancel(ctx)
		answered := make(chan error, 1)
		go func() { answered <- Answer(answering, helper, "the-key-of-this-machine", at.Port()) }()
		defer func() { stop(); <-answered }()
	}
	call := Call{Remote: "rtp://" + at.String(), Type: connectors.MustType(m.typ), PayloadType: m.pt}
	for _, change := range changes {
		change(&call)
	}
	s := open(t, newEdge(t, rule), call)
	adus := m.encoded(ctx, t)
	file := filepath.Join(t.TempDir(), "heard.wav")
	p := m.hearer(t, name, s, at, file)
	waitBound(ctx, t, at)
	for _, a := range adus {
		if err := s.Writer().Write(ctx, a); err != nil {
			p.stop()
			t.Fatalf("%v\n%s", err, p.said)
		}
	}
	time.Sleep(400 * time.Millisecond) // their jitter buffers
	p.stop()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.said)
	}
	f, samples, err := audio.ParseWAV(b)
	if err != nil {
		t.Fatalf("%d bytes: %v\n%s", len(b), err, p.said)
	}
	measure(samples, f.Rate).compare(t, name+" hears "+m.name)
}

// encoded is the tone as ADUs of 20 ms; for Opus, which has no encoder in pure Go, FFmpeg's.
func (m media) encoded(ctx context.Context, t *testing.T) []connectors.ADU {
	t.Helper()
	if m.name == "Opus" {
		s := open(t, newEdge(t, "127.0.0.1/32:1-65535"), Call{Type: connectors.MustType(m.typ), PayloadType: m.pt, Silence: time.Second})
		p := m.speakers(t, s.Addr())["FFmpeg"]()
		defer p.stop()
		defer s.Close()
		return collect(ctx, t, s)
	}
	b, err := os.ReadFile(tone(t, m.rate))
	if err != nil {
		t.Fatal(err)
	}
	_, samples, err := audio.ParseWAV(b)
	if err != nil {
		t.Fatal(err)
	}
	var all []connectors.ADU
	piece := m.rate / 50
	for n := 0; (n+1)*piece <= len(samples); n++ {
		a := connectors.ADU{Payload: audio.Payload(nil, samples[n*piece:(n+1)*piece]), MediaTime: time.Duration(n) * 20 * time.Millisecond}
		if m.name == "PCMU" {
			a.Payload = audio.MuLaw().Encode(a.Payload)
		}
		all = append(all, a)
	}
	return all
}

// FFmpeg's SRTP is understood, and ours by FFmpeg, with the keys of a=crypto lines.
func TestSRTPWithFFmpeg(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	m := kinds()[0]
	key := func(b byte) (crypto, inline string) {
		inline = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 30))
		return "AES_CM_128_HMAC_SHA1_80 inline:" + inline, inline
	}
	out, _ := key(1)
	in, theirs := key(2)
	s := open(t, newEdge(t, "127.0.0.1/32:1-65535"), Call{Type: connectors.MustType(m.typ), Out: out, In: in, Silence: time.Second})
	args := append([]string{"-hide_banner", "-loglevel", "error", "-re", "-i", tone(t, m.rate)}, m.ffmpeg...)
	p := run(t, "ffmpeg", append(args, "-f", "rtp", "-srtp_out_suite", "AES_CM_128_HMAC_SHA1_80", "-srtp_out_params", theirs, "srtp://"+s.Addr().String())...)
	measure(m.decode(t, collect(ctx, t, s)), m.rate).compare(t, "FFmpeg says PCMU by SRTP")
	p.stop()
	hearTone(t, m, "FFmpeg", func(c *Call) { c.Out, c.In, c.Remote = out, in, "s"+c.Remote })
}

// freePair is a pair of ports that were free a moment ago.
func freePair(t *testing.T) netip.AddrPort {
	p := newProgram(t)
	p.Close()
	return p.at
}

// waitBound waits until somebody receives at the address: the kernel lists it.
func waitBound(ctx context.Context, t *testing.T, at netip.AddrPort) {
	t.Helper()
	want := fmt.Sprintf(":%04X ", at.Port())
	for {
		b, err := os.ReadFile("/proc/net/udp")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), want) {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal(errors.New("the program does not receive"))
		}
	}
}

func decodeOpus(t *testing.T, all []connectors.ADU, rate int) []int16 {
	t.Helper()
	d, err := audio.NewOpusDecoder(audio.Format{Rate: rate, Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	var samples []int16
	for _, a := range all {
		some, err := d.Decode(a.Payload)
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, some...)
	}
	return samples
}
