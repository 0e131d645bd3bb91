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
	"ninja/connectors/udp"
	"ninja/internal/world"
)

const adu = 640 // bytes: 20 ms of audio/L16 at 16 kHz

// BenchmarkHop measures the time from Write to Read of one ADU at a time, whose reader waits, and in the same run, turn
// by turn, that of the barest thing that could carry it. For mem that is a channel. The others are measured as a node on
// a path sees them: a relay reads from one hop and writes to the next, two crossings, beside a bare relay that does the
// same with plain sockets, without encryption or protocol. x-handoff and x-bare-relay are the ratios of the medians.
func BenchmarkHop(b *testing.B) {
	b.Run("mem", func(b *testing.B) {
		w, r := mem.Pair(0)
		compare(b, "x-handoff", handOff(b), hop(b, w, r, 0), 0)
	})
	b.Run("tcp", func(b *testing.B) {
		w, r := relayed(b, connectorstest.Processes, "application/octet-stream", overTCP)
		compare(b, "x-bare-relay", bareTCP(b), hop(b, w, r, 0), 100*time.Microsecond)
	})
	for _, ends := range []struct {
		name string
		make processes
	}{{"", connectorstest.Trunked}, {"-own-socket", connectorstest.Processes}} {
		b.Run("udp"+ends.name, func(b *testing.B) {
			w, r := relayed(b, ends.make, "application/octet-stream", overUDP)
			compare(b, "x-bare-relay", bareUDP(b), hop(b, w, r, 0), 100*time.Microsecond)
		})
		b.Run("rtp"+ends.name, func(b *testing.B) {
			// The media time of the ADUs is that of the turns, so that pacing never waits.
			w, r := relayed(b, ends.make, "audio/L16;channels=8;rate=192000", overRTP)
			compare(b, "x-bare-relay", bareUDP(b), hop(b, w, r, time.Second*adu/16/192_000), 300*time.Microsecond)
		})
	}
}

// processes makes processes with trunks or without.
type processes func(testing.TB, string, ...world.World) []connectorstest.Process

func overUDP(p connectorstest.Process) connectors.Transport {
	return udp.New(udp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
}

func overTCP(p connectorstest.Process) connectors.Transport {
	return tcp.New(tcp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
}

func overRTP(p connectorstest.Process) connectors.Transport {
	return rtp.New(rtp.Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
}

// relayed makes two hops and what reads from the first and writes to the second.
func relayed(b *testing.B, ends processes, typ string, make func(connectorstest.Process) connectors.Transport) (connectors.Writer, connectors.Reader) {
	p := ends(b, "127.0.0.1:0", world.Real(), world.Real(), world.Real())
	w, in := join(b, []connectorstest.Process{p[1], p[0]}, typ, make)
	out, r := join(b, []connectorstest.Process{p[2], p[1]}, typ, make)
	ctx, cancel := context.WithCancel(context.Background())
	done := goes(func() error {
		a, err := in.Read(ctx)
		if err != nil {
			return err
		}
		return out.Write(ctx, a)
	})
	b.Cleanup(func() { cancel(); in.Close(); out.Close(); <-done })
	return w, r
}

// goes does step until it fails, and then closes done.
func goes(step func() error) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for step() == nil {
		}
	}()
	return done
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

func join(b *testing.B, p []connectorstest.Process, typ string, make func(connectorstest.Process) connectors.Transport) (connectors.Writer, connectors.Reader) {
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

// bareTCP is two plain connections with frames of a length and a payload, and a relay between them.
func bareTCP(b *testing.B) carrier {
	pipe := func() (in, out net.Conn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		if out, err = net.Dial("tcp", l.Addr().String()); err != nil {
			b.Fatal(err)
		}
		if in, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
		return in, out
	}
	in, out := pipe()
	behind, ahead := pipe()
	between, got := make([]byte, 4+adu), make([]byte, 4+adu)
	done := goes(func() error {
		if _, err := io.ReadFull(in, between); err != nil {
			return err
		}
		_, err := ahead.Write(between)
		return err
	})
	arrived := receive(b, func() error { _, err := io.ReadFull(behind, got); return err }, func() {
		for _, c := range []net.Conn{in, out, behind, ahead} {
			c.Close()
		}
		<-done
	})
	frame := binary.BigEndian.AppendUint32(nil, adu)
	frame = append(frame, make([]byte, adu)...)
	return carrier{func() error { _, err := out.Write(frame); return err }, arrived}
}

// bareUDPPipe is two plain sockets.
func bareUDPPipe(b *testing.B) (in *net.UDPConn, out net.Conn) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	if out, err = net.Dial("udp", l.LocalAddr().String()); err != nil {
		b.Fatal(err)
	}
	return l.(*net.UDPConn), out
}

// bareUDP is plain sockets with a relay between them.
func bareUDP(b *testing.B) carrier {
	in, out := bareUDPPipe(b)
	behind, ahead := bareUDPPipe(b)
	between, got := make([]byte, 2048), make([]byte, 2048)
	done := goes(func() error {
		n, err := in.Read(between)
		if err != nil {
			return err
		}
		_, err = ahead.Write(between[:n])
		return err
	})
	arrived := receive(b, func() error { _, err := behind.Read(got); return err }, func() {
		for _, c := range []net.Conn{in, out, behind, ahead} {
			c.Close()
		}
		<-done
	})
	packet := make([]byte, 12+adu)
	return carrier{func() error { _, err := out.Write(packet); return err }, arrived}
}
