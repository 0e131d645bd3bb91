package connectors_test

import (
	"fmt"
	"testing"
	"time"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

// BenchmarkInPlace writes an ADU and reads it in the same goroutine, so that nothing is woken: what is left is the work
// on a packet of both ends and the two system calls. floor-ns is those two calls alone.
func BenchmarkInPlace(b *testing.B) {
	for _, c := range []struct {
		name, typ string
		make      func(connectorstest.Process) connectors.Transport
		ends      processes
	}{
		{"udp", "application/octet-stream", overUDP, connectorstest.Trunked},
		{"rtp", "audio/L16;channels=8;rate=192000", overRTP, connectorstest.Trunked},
		{"udp-own-socket", "application/octet-stream", overUDP, connectorstest.Processes},
		{"rtp-own-socket", "audio/L16;channels=8;rate=192000", overRTP, connectorstest.Processes},
	} {
		b.Run(fmt.Sprint(c.name), func(b *testing.B) {
			p := c.ends(b, "127.0.0.1:0", world.Real(), world.Real())
			w, r := join(b, p, c.typ, c.make)
			defer r.Close()
			defer w.Close()
			in, out := bareUDPPipe(b)
			defer in.Close()
			defer out.Close()
			packet, got := make([]byte, 12+adu), make([]byte, 2048)
			payload := make([]byte, adu)
			var ours, floor time.Duration
			b.ReportAllocs()
			n := time.Duration(0)
			for b.Loop() {
				n++
				begin := time.Now()
				for range 8 {
					if _, err := out.Write(packet); err != nil {
						b.Fatal(err)
					}
					if _, err := in.Read(got); err != nil {
						b.Fatal(err)
					}
				}
				between := time.Now()
				for i := range time.Duration(8) {
					a := connectors.ADU{Payload: payload, MediaTime: (8*n + i) * time.Second * adu / 16 / 192_000}
					if err := w.Write(b.Context(), a); err != nil {
						b.Fatal(err)
					}
					if _, err := r.Read(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				ours += time.Since(between)
				floor += between.Sub(begin)
			}
			b.ReportMetric(float64(ours)/float64(b.N)/8, "adu-ns")
			b.ReportMetric(float64(floor)/float64(b.N)/8, "floor-ns")
		})
	}
}
