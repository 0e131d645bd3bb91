package connectors_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/connectors/mem"
	"ninja/connectors/rtp"
	"ninja/connectors/tcp"
	"ninja/internal/world"
)

const adu = 640 // bytes: 20 ms of audio/L16 at 16 kHz

// BenchmarkHop measures the time from Write to Read of one ADU at a time, whose reader waits, and in the same run, turn
// by turn, that of the barest thing that could carry it: a channel for mem, a plain socket without encryption or protocol
// for the others. x-handoff and x-bare-relay are the ratios of the medians.
func BenchmarkHop(b *testing.B) {
	b.Run("mem", func(b *testing.B) {
		w, r := mem.Pair(0)
		compare(b, "x-handoff", handOff(b), hop(b, w, r, 0), 0)
	})
	b.Run("tcp", func(b *testing.B) {
		w, r := join(b, "application/octet-stream", func(p connectorstest.Process) connectors.Transport {
			return tcp.New(tcp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
		})
		compare(b, "x-bare-relay", bareTCP(b), hop(b, w, r, 0), 100*time.Microsecond)
	})
	b.Run("rtp", func(b *testing.B) {
		// The media time of the ADUs is that of the turns, so that pacing never waits.
		w, r := join(b, "audio/L16;channels=8;rate=192000", func(p connectorstest.Process) connectors.Transport {
			return rtp.New(rtp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
		})
		compare(b, "x-bare-relay", bareUDP(b), hop(b, w, r, time.Second*adu/16/192_000), 300*time.Microsecond)
	})
}

// carrier sends one ADU; its receiver puts the time of arrival on arrived.
type carrier struct {
	send    func() error
	arrived chan time.Time
}

// once takes one ADU across and returns how long it took.
func (c carrier) once(b *testing.B) time.Duration {
	begin := time.Now()
	if err := c.send(); err != nil {
		b.Fatal(err)
	}
	return (<-c.arrived).Sub(begin)
}

// compare takes turns, pause apart, and reports.
func compare(b *testing.B, unit string, floor, ours carrier, pause time.Duration) {
	var floors, hops []time.Duration
	for range 200 { // warm
		floor.once(b)
		ours.once(b)
		time.Sleep(pause)
	}
	b.ResetTimer()
	for n := range b.N {
		if n%2 == 0 { // neither always finds the machine warm from the other
			floors = append(floors, floor.once(b))
			hops = append(hops, ours.once(b))
		} else {
			hops = append(hops, ours.once(b))
			floors = append(floors, floor.once(b))
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
	b.StopTimer()
	f, h := median(floors), median(hops)
	b.ReportMetric(float64(h), "p50-ns")
	b.ReportMetric(float64(f), "floor-p50-ns")
	b.ReportMetric(float64(h)/float64(f), unit)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// receive runs a receiver until it fails, which it does when the benchmark closes what it reads from.
func receive(b *testing.B, next func() error, stop func()) chan time.Time {
	arrived, done := make(chan time.Time), make(chan struct{})
	go func() {
		defer close(done)
		for next() == nil {
			arrived <- time.Now()
		}
	}()
	b.Cleanup(func() { stop(); <-done })
	return arrived
}

func handOff(b *testing.B) carrier {
	c := make(chan connectors.ADU, mem.Depth)
	arrived := receive(b, func() error {
		if _, ok := <-c; !ok {
			return io.EOF
		}
		return nil
	}, func() { close(c) })
	payload := make([]byte, adu)
	return carrier{func() error { c <- connectors.ADU{Payload: payload}; return nil }, arrived}
}

// hop measures a hop; step is the media time of an ADU.
func hop(b *testing.B, w connectors.Writer, r connectors.Reader, step time.Duration) carrier {
	ctx, cancel := context.WithCancel(context.Background())
	arrived := receive(b, func() error { _, err := r.Read(ctx); return err }, func() { cancel(); w.Close(); r.Close() })
	n := time.Duration(0)
	payload := make([]byte, adu)
	return carrier{func() error {
		n++
		return w.Write(ctx, connectors.ADU{Payload: payload, MediaTime: n * step})
	}, arrived}
}

func join(b *testing.B, typ string, make func(connectorstest.Process) connectors.Transport) (connectors.Writer, connectors.Reader) {
	p := connectorstest.Processes(b, "127.0.0.1:0", world.Real(), world.Real())
	h := connectors.Hop{Path: "path", Name: "a->b", Type: connectors.MustType(typ), Peer: string(p[1].Identity.ID())}
	pending, err := make(p[0]).Listen(b.Context(), h)
	if err != nil {
		b.Fatal(err)
	}
	h.Peer = string(p[0].Identity.ID())
	w, err := make(p[1]).Dial(b.Context(), pending.Address(), h)
	if err != nil {
		b.Fatal(err)
	}
	r, err := pending.Accept(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return w, r
}

// bareTCP is a plain connection with frames of a length and a payload.
func bareTCP(b *testing.B) carrier {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	got := make([]byte, 4+adu)
	arrived := receive(b, func() error { _, err := io.ReadFull(in, got); return err }, func() { in.Close(); out.Close() })
	frame := binary.BigEndian.AppendUint32(nil, adu)
	frame = append(frame, make([]byte, adu)...)
	return carrier{func() error { _, err := out.Write(frame); return err }, arrived}
}

// bareUDP is a plain socket.
func bareUDP(b *testing.B) carrier {
	in, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	out, err := net.Dial("udp", in.LocalAddr().String())
	if err != nil {
		b.Fatal(err)
	}
	got := make([]byte, 2048)
	arrived := receive(b, func() error { _, err := in.(*net.UDPConn).Read(got); return err }, func() { in.Close(); out.Close() })
	packet := make([]byte, 12+adu)
	return carrier{func() error { _, err := out.Write(packet); return err }, arrived}
}
