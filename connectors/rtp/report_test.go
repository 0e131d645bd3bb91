package rtp

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

func TestReport(t *testing.T) {
	r := reporter{ssrc: 7, sequence: 0x7fff, wanted: true}
	if b := r.due(at(0), 0, 0, 0); b != nil {
		t.Error("a report of nothing")
	}
	if b := r.due(at(999*ms), 50, 0, 0); b != nil {
		t.Error("a report too soon")
	}
	r.due(at(time.Second), 99, 0, 0)
	b := r.due(at(2*time.Second), 199, 25, 80)
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	got := packets[0].(*rtcp.ReceiverReport).Reports[0]
	if want := (rtcp.ReceptionReport{SSRC: 7, FractionLost: 64, TotalLost: 25, LastSequenceNumber: 0x7fff + 199, Jitter: 80}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if lost, jitter, ok := parseReport(b, 7); lost != 25 || jitter != 80 || !ok {
		t.Errorf("%d, %d, %v", lost, jitter, ok)
	}
	if _, _, ok := parseReport(b, 8); ok {
		t.Error("a report of another stream")
	}
	if b := (&reporter{}).due(at(time.Hour), 1, 1, 1); b != nil {
		t.Error("a report that nobody asked for")
	}
}

// The sending end knows what is lost and how uneven the link is while it sends, by a socket of its own and on a trunk.
func TestSenderLearns(t *testing.T) {
	t.Run("own socket", func(t *testing.T) { senderLearns(t, connectorstest.Processes) })
	t.Run("trunk", func(t *testing.T) { senderLearns(t, connectorstest.Trunked) })
}

func senderLearns(t *testing.T, processes func(testing.TB, string, ...world.World) []connectorstest.Process) {
	synctest.Test(t, func(t *testing.T) {
		_, w, r := networkOf(t, processes, world.Link{Delay: 20 * ms, Jitter: 30 * ms, Loss: 0.1}, Config{})
		if on := r.(*reader).session.Trunked(); on != strings.Contains(t.Name(), "trunk") {
			t.Fatalf("on a trunk: %v", on)
		}
		defer r.Close()
		result := make(chan error, 1)
		go func() { result <- talk(t.Context(), w, 500) }()
		listen(t, r, time.Now())
		if err := <-result; err != nil {
			t.Error(err)
		}
		here, there := r.(connectors.Measured).Stats(), w.(connectors.Measured).Stats()
		if there.Lost == 0 || there.Lost > here.Lost || there.Lost < here.Lost*7/10 || there.Jitter < 5*ms || there.Jitter > 30*ms {
			t.Errorf("the sender knows %+v, the receiver %+v", there, here)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	b, err := (&rtcp.ReceiverReport{SSRC: 6, Reports: []rtcp.ReceptionReport{{SSRC: 7, TotalLost: 3}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(_ *testing.T, b []byte) { parseReport(b, 7) })
}
