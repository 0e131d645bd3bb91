package trunk

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ninja/ca/seal"
)

// BenchmarkTrunk sends many paced streams of 20 ms packets of mixed sizes over a trunk, and in the same run over one
// socket a stream, both sealed the same way. It reports the packets that arrive for each second of processor time of both
// ends together; x-socket-per-stream is their ratio (aim 5). An iteration is half a second of all the streams, over each,
// and of nothing: what the pacing itself takes is in neither.
func BenchmarkTrunk(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint("streams=", n), func(b *testing.B) {
			out, in := join(b, real(b), false)
			var arrived atomic.Int64
			done := make(chan error, 1)
			go func() { done <- in.Run(context.Background(), func(uint64, uint32, []byte) { arrived.Add(1) }, nil) }()
			sockets := openSockets(b, n)
			overTrunk := func(stream int, payload []byte) { out.Send(uint64(stream), 1, payload) }
			var trunk, single, idle measure
			trunk.pace(n, 5, overTrunk, &arrived) // warm
			single.pace(n, 5, sockets.send, &sockets.arrived)
			trunk, single = measure{}, measure{}
			nothing := func(int, []byte) {}
			b.ResetTimer()
			for range b.N {
				trunk.pace(n, 25, overTrunk, &arrived)
				single.pace(n, 25, sockets.send, &sockets.arrived)
				idle.pace(n, 25, nothing, &arrived)
			}
			b.StopTimer()
			trunk.cpu -= idle.cpu
			single.cpu -= idle.cpu
			out.Close()
			if err := <-done; err != nil {
				b.Error(err)
			}
			packets, calls := out.Stats()
			b.ReportMetric(float64(packets)/float64(calls), "packets/call")
			b.ReportMetric(trunk.rate(), "packets/cpu-s")
			b.ReportMetric(single.rate(), "socket-packets/cpu-s")
			b.ReportMetric(trunk.rate()/single.rate(), "x-socket-per-stream")
			b.ReportMetric(float64(trunk.allocs)/float64(trunk.sent), "allocs/packet")
			b.ReportMetric(100*float64(trunk.sent-trunk.arrived)/float64(trunk.sent), "%lost")
		})
	}
}

// measure adds up what pacing cost.
type measure struct {
	sent, arrived int64
	cpu           time.Duration
	allocs        uint64
}

func (m *measure) rate() float64 { return float64(m.arrived) / m.cpu.Seconds() }

// pace sends for each stream a packet every 20 ms, the streams spread over them evenly.
func (m *measure) pace(streams, rounds int, send func(stream int, payload []byte), arrived *atomic.Int64) {
	payloads := [][]byte{make([]byte, 160), make([]byte, 320), make([]byte, 640)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, came, begin := processor(), arrived.Load(), time.Now()
	for tick := range 20 * rounds {
		time.Sleep(time.Until(begin.Add(time.Duration(tick) * time.Millisecond)))
		for i := tick % 20; i < streams; i += 20 {
			send(i, payloads[i%3])
			m.sent++
		}
	}
	time.Sleep(20 * time.Millisecond)
	m.cpu += processor() - cpu
	m.arrived += arrived.Load() - came
	runtime.ReadMemStats(&after)
	m.allocs += after.Mallocs - before.Mallocs
}

// processor is the time that the process has used of the processors.
func processor() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sockets is one sealed socket a stream.
type sockets struct {
	out     []net.Conn
	sealers []*seal.Sealer
	buffer  []byte
	arrived atomic.Int64
}

func openSockets(b *testing.B, n int) *sockets {
	s := &sockets{}
	var work sync.WaitGroup
	var all []net.Conn
	for i := range n {
		key := make([]byte, seal.KeySize)
		key[0], key[1] = byte(i), byte(i>>8)
		sealer, err := seal.NewSealer(key, uint64(i))
		if err != nil {
			b.Fatal(err)
		}
		opener, err := seal.NewOpener(key, uint64(i))
		if err != nil {
			b.Fatal(err)
		}
		in, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			b.Fatal(err)
		}
		out, err := net.Dial("udp", in.LocalAddr().String())
		if err != nil {
			b.Fatal(err)
		}
		s.out, s.sealers, all = append(s.out, out), append(s.sealers, sealer), append(all, in, out)
		work.Go(func() {
			d, plain := make([]byte, seal.MaxDatagram), make([]byte, 0, seal.MaxDatagram)
			for {
				k, err := in.Read(d)
				if err != nil {
					return
				}
				if _, _, err := opener.Open(plain, d[:k]); err == nil {
					s.arrived.Add(1)
				}
			}
		})
	}
	b.Cleanup(func() {
		for _, c := range all {
			c.Close()
		}
		work.Wait()
	})
	return s
}

func (s *sockets) send(stream int, payload []byte) {
	s.buffer, _ = s.sealers[stream].Seal(s.buffer[:0], 1, payload)
	s.out[stream].Write(s.buffer)
}
