package webrtc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	pion "github.com/pion/webrtc/v4"

	"ninja/connectors"
	"ninja/internal/world"
)

// offer is what a browser's end would say, and that end.
func offer(t testing.TB) (*pion.PeerConnection, string) {
	t.Helper()
	media := new(pion.MediaEngine)
	for _, c := range codecs() {
		if err := media.RegisterCodec(c, pion.RTPCodecTypeAudio); err != nil {
			t.Fatal(err)
		}
	}
	api := pion.NewAPI(pion.WithMediaEngine(media), pion.WithSettingEngine(engine(netip.MustParseAddr("127.0.0.1"), nil)))
	pc, err := api.NewPeerConnection(pion.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.GracefulClose() })
	track, err := pion.NewTrackLocalStaticRTP(codecOf(pion.MimeTypePCMU), "voice", "browser")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTrack(track); err != nil {
		t.Fatal(err)
	}
	channel, err := pc.CreateDataChannel("ninja", nil)
	if err != nil {
		t.Fatal(err)
	}
	channel.OnOpen(func() { channel.SendText("hello") })
	o, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := pion.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(o); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return pc, pc.LocalDescription().SDP
}

// A peer answers an offer in PCMU, takes messages, and its end is seen; its Play keeps to the media's pace until a Hush.
func TestPeer(t *testing.T) {
	pc, o := offer(t)
	said := make(chan string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p, answer, err := Answer(ctx, PeerConfig{
		World: world.Real(), At: netip.MustParseAddr("127.0.0.1"), Said: func(b []byte) { said <- string(b) },
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if strings.Contains(answer, "opus") || !strings.Contains(answer, "PCMU/8000") {
		t.Error(answer)
	}
	if err := p.Tell("too early"); err == nil {
		t.Error("told before the channel is open")
	}
	if err := pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	if m := <-said; m != "hello" {
		t.Errorf("said %q", m)
	}
	begin := time.Now()
	played := make(chan error, 1)
	go func() { played <- p.Play(ctx, connectors.ADU{Payload: make([]byte, 8000*5)}) }()
	time.AfterFunc(300*time.Millisecond, p.Hush)
	if err := <-played; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 250*time.Millisecond || took > 2*time.Second {
		t.Errorf("5 s of sound, hushed after 300 ms, took %v", took)
	}
	pc.GracefulClose()
	select {
	case <-p.Done():
	case <-ctx.Done():
		t.Error("the other end has gone and nobody is told")
	}
}

// A page that names addresses of others as its own has nothing sent there.
func TestPeerIsNoCannon(t *testing.T) {
	victim, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer victim.Close()
	_, o := offer(t)
	port := victim.LocalAddr().(*net.UDPAddr).Port
	var named strings.Builder
	for line := range strings.Lines(o) {
		if !strings.HasPrefix(line, "a=candidate:") {
			named.WriteString(line)
			continue
		}
		for n := range 300 {
			fmt.Fprintf(&named, "a=candidate:%d 1 udp 2130706431 127.0.0.1 %d typ host\r\n", n, port)
		}
	}
	p, _, err := Answer(t.Context(), PeerConfig{World: world.Real(), At: netip.MustParseAddr("127.0.0.1")}, named.String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	victim.SetReadDeadline(time.Now().Add(time.Second))
	if n, _, err := victim.ReadFrom(make([]byte, 2000)); err == nil {
		t.Errorf("%d bytes were sent to an address that did not ask", n)
	}
}

// No offer makes a peer fail otherwise than with an error.
func FuzzOffer(f *testing.F) {
	_, o := offer(f)
	f.Add(o)
	f.Add(strings.ReplaceAll(o, "PCMU", "VP8"))
	f.Add("v=0\r\n")
	f.Fuzz(func(t *testing.T, o string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p, answer, err := Answer(ctx, PeerConfig{World: world.Real(), At: netip.MustParseAddr("127.0.0.1")}, o)
		if err != nil {
			return
		}
		if len(answer) == 0 {
			t.Error("no answer and no error")
		}
		p.Close()
	})
}
