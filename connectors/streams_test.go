package connectors_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

// BenchmarkStreams runs many paced streams of 20 ms L16 at once, on one core: a source, an encrypted rtp hop, a gain, an
// encrypted rtp hop, a listener, all in this process. It reports the share that was lost (aim 0) and the 99th percentile
// of the time from source to listener (aim below 20 ms); an iteration is a second of all the streams. The aim is 1,000.
// gstreamer= is the same transform in GStreamer in the same run, with plain RTP.
func BenchmarkStreams(b *testing.B) {
	for _, n := range []int{100, 300, 500, 1000} {
		b.Run(fmt.Sprint("streams=", n), func(b *testing.B) { streams(b, n) })
	}
	for _, n := range []int{100, 300, 500} {
		b.Run(fmt.Sprint("gstreamer=", n), func(b *testing.B) { gstreamer(b, n) })
	}
}

func streams(b *testing.B, n int) {
	const typ = "audio/L16;channels=1;rate=8000"
	p := connectorstest.Trunked(b, "127.0.0.1:0", world.Real(), world.Real())
	all := make([]*stream, n)
	for i := range all {
		all[i] = &stream{}
		all[i].out, all[i].in = join(b, p, typ, overRTP)
		all[i].ahead, all[i].behind = join(b, p, typ, overRTP)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	begin := time.Now().Add(100 * time.Millisecond)
	used := processor()
	b.ResetTimer()
	var sources sync.WaitGroup
	for i, s := range all {
		offset := 20 * time.Millisecond * time.Duration(i) / time.Duration(n) // streams do not begin together
		sources.Go(func() { s.speak(ctx, begin.Add(offset), b.N*50) })
		work.Go(func() { s.gain(ctx) })
		work.Go(func() { s.listen(ctx) })
	}
	sources.Wait()
	time.Sleep(100 * time.Millisecond)
	b.StopTimer()
	used = processor() - used
	cancel()
	work.Wait()
	var took []time.Duration
	for _, s := range all {
		took = append(took, s.took...)
		if s.err != nil {
			b.Error(s.err)
		}
		for _, c := range []interface{ Close() error }{s.behind, s.ahead, s.in, s.out} {
			c.Close()
		}
	}
	if len(took) == 0 {
		b.Fatal("nothing arrived")
	}
	slices.Sort(took)
	sent := n * b.N * 50
	b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
	b.ReportMetric(float64(median(took))/1e6, "p50-ms")
	b.ReportMetric(100*float64(sent-len(took))/float64(sent), "%lost")
	b.ReportMetric(used.Seconds()/b.Elapsed().Seconds(), "cores")
	b.ReportMetric(float64(used.Microseconds())/float64(len(took)), "cpu-us/adu")
}

// processor is the time that the process has used of the processors.
func processor() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stream is one path: out to in, gain, ahead to behind.
type stream struct {
	out, ahead connectors.Writer
	in, behind connectors.Reader
	took       []time.Duration
	err        error
}

// speak writes ADUs at their times, which stand in the first bytes.
func (s *stream) speak(ctx context.Context, begin time.Time, n int) {
	for i := range n {
		at := time.Duration(i) * 20 * time.Millisecond
		time.Sleep(time.Until(begin.Add(at)))
		payload := make([]byte, 320)
		binary.BigEndian.PutUint64(payload, uint64(time.Now().UnixNano()))
		if err := s.out.Write(ctx, connectors.ADU{Payload: payload, MediaTime: at}); err != nil {
			s.err = err
			return
		}
	}
}

// gain reads, halves every sample behind the time, and writes.
func (s *stream) gain(ctx context.Context) {
	for {
		a, err := s.in.Read(ctx)
		if err == nil {
			for i := 8; i+1 < len(a.Payload); i += 2 {
				v := int16(binary.BigEndian.Uint16(a.Payload[i:]))
				binary.BigEndian.PutUint16(a.Payload[i:], uint16(v/2))
			}
			a.Seq = 0
			err = s.ahead.Write(ctx, a)
		}
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				s.err = err
			}
			return
		}
	}
}

func (s *stream) listen(ctx context.Context) {
	for {
		a, err := s.behind.Read(ctx)
		if err != nil {
			return
		}
		if len(a.Payload) == 320 {
			s.took = append(s.took, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(a.Payload)))))
		}
	}
}
