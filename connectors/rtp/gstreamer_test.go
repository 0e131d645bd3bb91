package rtp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/internal/world/relay"
)

// outcome is what a listener heard.
type outcome struct {
	delays []time.Duration // from the source to the listener's ear
	heard  map[int]bool
}

func (o *outcome) add(n int, delay time.Duration) {
	if o.heard == nil {
		o.heard = make(map[int]bool)
	}
	if !o.heard[n] {
		o.heard[n] = true
		o.delays = append(o.delays, delay)
	}
}

func (o *outcome) percentile(p int) time.Duration {
	slices.Sort(o.delays)
	return o.delays[len(o.delays)*p/100]
}

// Threats and speed beside the best-known: on a link with 5 % loss and 30 ms of jitter the playout that is sized by
// measurement delays less than GStreamer's rtpjitterbuffer at its default, and loses no more than the link does and a
// little. Both hear the same stream, each over a link with fates of the same kind; concealed packets count as lost.
func TestBesideGStreamer(t *testing.T) {
	packets := 150
	if os.Getenv("NINJA_PROVE") != "" {
		packets = 1000
	}
	link := world.Link{Delay: 20 * ms, Jitter: 30 * ms, Loss: 0.05}
	r := relay.New(relay.Config{There: relay.Faults{Link: link}})
	t.Logf("relay seed %d", r.Seed())
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	in, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	port := freePort(t)
	command := exec.CommandContext(ctx, "gst-launch-1.0", "-q", "udpsrc", "address=127.0.0.1", fmt.Sprint("port=", port),
		"caps=application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0", "!",
		"rtpjitterbuffer", "!", "rtppcmudepay", "!", "fdsink", "fd=1", "sync=true")
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatalf("gst-launch-1.0: %v; make checkers installs it", err)
	}
	defer command.Wait()
	defer cancel()
	waitForPort(t, port)

	dial := func(address string) net.Conn {
		c, err := r.World().Net.Dial(ctx, "udp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	sinks := []net.Conn{dial(in.LocalAddr().String()), dial(fmt.Sprint("127.0.0.1:", port))}
	var ours, gst outcome
	begin := time.Now().Add(100 * ms)
	done := make(chan struct{}, 2)
	go func() { unpackFrom(in, begin, packets, &ours); done <- struct{}{} }()
	go func() { chunksFrom(out, begin, packets, &gst); done <- struct{}{} }()
	packAll(t, begin, packets, sinks)
	time.Sleep(time.Second) // what is under way
	in.Close()
	cancel()
	<-done
	<-done

	lost := func(o *outcome) float64 { return 100 * float64(packets-len(o.heard)) / float64(packets) }
	if len(ours.delays) < packets/2 || len(gst.delays) < packets/2 {
		t.Fatalf("%d heard by ours, %d by GStreamer's, of %d", len(ours.delays), len(gst.delays), packets)
	}
	t.Logf("PROVE playout on 5 %% loss and 30 ms jitter: ours p50 %v, p99 %v, lost %.1f %%; GStreamer's default p50 %v, p99 %v, lost %.1f %%",
		ours.percentile(50).Round(ms), ours.percentile(99).Round(ms), lost(&ours),
		gst.percentile(50).Round(ms), gst.percentile(99).Round(ms), lost(&gst))
	if ours.percentile(50) >= gst.percentile(50) {
		t.Error("ours delays as much as GStreamer's default")
	}
	if lost(&ours) > 15 {
		t.Error("far more is lost than the link loses")
	}
}

// numbered is the n-th packet's payload: its number again and again, in bytes that PCMU may have.
func numbered(n int) []byte { return bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(n)), 40) }

// packAll sends PCMU as a live source does, to all sinks.
func packAll(t *testing.T, begin time.Time, packets int, sinks []net.Conn) {
	f, err := FormatOf(connectors.MustType("audio/PCMU;rate=8000"))
	if err != nil {
		t.Fatal(err)
	}
	p := NewPacker(PackerConfig{Format: f, SSRC: 7})
	for n := range packets {
		at := time.Duration(n) * 20 * ms
		time.Sleep(time.Until(begin.Add(at)))
		err := p.Pack(time.Now(), connectors.ADU{Payload: numbered(n), MediaTime: at}, func(q *rtp.Packet, _ time.Duration) error {
			b, err := q.Marshal()
			for _, c := range sinks {
				c.Write(b)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// unpackFrom listens as an rtp hop to a listener does.
func unpackFrom(in net.PacketConn, begin time.Time, packets int, o *outcome) {
	f, _ := FormatOf(connectors.MustType("audio/PCMU;rate=8000"))
	u := NewUnpacker(UnpackerConfig{Format: f, Playout: 20 * ms, PlayoutMost: 200 * ms})
	b := make([]byte, 2000)
	for {
		a, ok, until := u.Take(time.Now())
		if ok {
			if len(a.Payload) == 160 {
				n := int(binary.BigEndian.Uint32(a.Payload))
				o.add(n, time.Since(begin.Add(time.Duration(n)*20*ms)))
			}
			continue
		}
		in.SetReadDeadline(until)
		n, _, err := in.ReadFrom(b)
		if ne, is := err.(net.Error); is && ne.Timeout() {
			continue
		}
		if err != nil {
			return
		}
		var q rtp.Packet
		if q.Unmarshal(b[:n]) == nil {
			u.Put(&q.Header, bytes.Clone(q.Payload), time.Now())
		}
	}
}

// chunksFrom reads what GStreamer plays.
func chunksFrom(out io.Reader, begin time.Time, packets int, o *outcome) {
	b := make([]byte, 160)
	for {
		if _, err := io.ReadFull(out, b); err != nil {
			return
		}
		if n := int(binary.BigEndian.Uint32(b)); n < packets {
			o.add(n, time.Since(begin.Add(time.Duration(n)*20*ms)))
		}
	}
}

// freePort is a port that nobody listens at.
func freePort(t *testing.T) int {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// waitForPort waits until somebody has the port.
func waitForPort(t *testing.T, port int) {
	for range 500 {
		c, err := net.ListenPacket("udp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			return
		}
		c.Close()
		time.Sleep(20 * ms)
	}
	t.Fatal("GStreamer does not listen")
}
