package units

import (
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/audio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tone is a second of a sound at 16 kHz between two of silence, as a WAV file.
func tone(t *testing.T) string {
	samples := make([]int16, 3*16000)
	for i := 16000; i < 32000; i++ {
		samples[i] = int16(8000 * math.Sin(float64(i)/10))
	}
	file := filepath.Join(t.TempDir(), "said.wav")
	if err := os.WriteFile(file, audio.WAV(audio.Format{Rate: 16000, Channels: 1}, samples), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// notes collects what the telephone tells.
type notes struct {
	mu  sync.Mutex
	all []string
}

func (n *notes) add(kind, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, kind+": "+text)
}

// dial runs both ends of a telephone against an other end that answers half a second after the speech.
func dial(t *testing.T, hangUp HangUp) (spoken int, told string, file string, took time.Duration) {
	file = filepath.Join(t.TempDir(), "heard.wav")
	phone, err := NewPhone(PhoneConfig{Name: "p", Microphone: tone(t), Speaker: file, HangUp: hangUp, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var r operators.Registry
	phone.Register(&r)
	var n notes
	env := operators.Env{World: world.Real(), Note: n.add}
	up, upEnd := mem.Pair(16)
	down, downEnd := mem.Pair(16)
	begun := time.Now()
	var ends sync.WaitGroup
	run := func(program string, in connectors.Reader, out connectors.Writer) {
		op, err := r.Make(t.Context(), program, env)
		if err != nil {
			t.Fatal(err)
		}
		ends.Go(func() {
			if err := op.Run(t.Context(), in, out); err != nil {
				t.Errorf("%s: %v", program, err)
			}
			if out != nil {
				out.Close()
			} else {
				in.Close()
			}
		})
	}
	run("phone/microphone", nil, up)
	run("phone/speaker", downEnd, nil)
	var other sync.WaitGroup
	other.Go(func() {
		law := audio.MuLaw()
		for i := range 10 {
			time.Sleep(10 * time.Millisecond)
			if i == 0 {
				time.Sleep(leadIn + 2500*time.Millisecond)
			}
			a := connectors.ADU{Payload: law.Encode(audio.Payload(nil, loudSamples())), MediaTime: time.Duration(i) * packetTime}
			if i == 9 {
				a.Mark = connectors.EndOfUtterance
			}
			if down.Write(context.Background(), a) != nil {
				return
			}
		}
	})
	for {
		a, err := upEnd.Read(t.Context())
		if err != nil {
			break
		}
		if len(a.Payload) != packetSize || a.MediaTime != time.Duration(spoken)*packetTime {
			t.Errorf("packet %d: %d bytes at %v", spoken, len(a.Payload), a.MediaTime)
		}
		spoken++
	}
	ends.Wait()
	took = time.Since(begun)
	other.Wait()
	upEnd.Close()
	down.Close()
	return spoken, strings.Join(n.all, "\n"), file, took
}

func loudSamples() []int16 {
	s := make([]int16, packetSize)
	for i := range s {
		s[i] = int16(4000 * (1 - 2*(i/8%2)))
	}
	return s
}

// A telephone says its words in real time, tells when it has, when an answer begins and when it was heard, and hangs up.
func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spoken, told, file, took := dial(t, AfterAnswer)
		if want := int(took/packetTime) + 1; spoken < want-2 || spoken > want+1 {
			t.Errorf("%d packets in %v", spoken, took)
		}
		for _, want := range []string{"said: 2.0", "first-sample: 490 ms", "heard: 0.2 s"} {
			if !strings.Contains(told, want) {
				t.Errorf("%q is not told:\n%s", want, told)
			}
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, samples, err := audio.ParseWAV(b)
		if err != nil || f.Rate != phoneRate || len(samples) != 10*packetSize {
			t.Errorf("recorded %d samples at %d Hz: %v", len(samples), f.Rate, err)
		}
	})
}

func TestHangUpAtFirstSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, told, _, took := dial(t, AtFirstSample)
		if strings.Contains(told, "heard") || took > leadIn+2700*time.Millisecond {
			t.Errorf("after %v it was told:\n%s", took, told)
		}
	})
}

func TestMicrophoneMistakes(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.wav")
	if err := os.WriteFile(bad, []byte("RIFFxxxxWAVE"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{bad, filepath.Join(t.TempDir(), "none.wav")} {
		if _, err := NewPhone(PhoneConfig{Name: "p", Microphone: file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestDescription(t *testing.T) {
	phone, err := NewPhone(PhoneConfig{Name: "p", Position: &operators.Position{Lat: 1, Lon: 2}})
	if err != nil {
		t.Fatal(err)
	}
	d := phone.Description(operators.Node{Control: "a:1", Data: "a:2"})
	if b, err := d.Marshal(); err != nil || !strings.Contains(string(b), `<out>audio/PCMU;channels=1;rate=8000</out>`) {
		t.Errorf("%s %v", b, err)
	}
}
