package connectors_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// gstreamer runs n streams of L16 through one gst-launch-1.0 process on one core, which halves them: what BenchmarkStreams
// has between its two hops, with plain RTP instead of encrypted hops. The sources and listeners are plain sockets here. It
// reports what BenchmarkStreams does; cpu-us/adu is GStreamer's process alone.
func gstreamer(b *testing.B, n int) {
	path, err := exec.LookPath("gst-launch-1.0")
	if err != nil {
		b.Skip("gst-launch-1.0 is not installed: make checkers does")
	}
	args := []string{"-q"}
	into, listeners, free := make([]int, n), make([]*net.UDPConn, n), make([]*net.UDPConn, n)
	for i := range n {
		listeners[i], free[i] = udpAnywhere(b), udpAnywhere(b)
		into[i] = free[i].LocalAddr().(*net.UDPAddr).Port
		args = append(args, "udpsrc", "address=127.0.0.1", fmt.Sprint("port=", into[i]),
			"caps=application/x-rtp,media=audio,clock-rate=8000,encoding-name=L16,channels=1,payload=96",
			"!", "rtpL16depay", "!", "audioconvert", "!", "volume", "volume=0.5", "!", "audioconvert", "!", "rtpL16pay", "!",
			"udpsink", "host=127.0.0.1", fmt.Sprint("port=", listeners[i].LocalAddr().(*net.UDPAddr).Port), "sync=false", "async=false")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	command := exec.CommandContext(ctx, path, args...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGINT) }
	command.WaitDelay = 5 * time.Second
	command.Stderr = os.Stderr
	senders := make([]net.Conn, n)
	for i := range n {
		if senders[i], err = net.Dial("udp", fmt.Sprint("127.0.0.1:", into[i])); err != nil {
			b.Fatal(err)
		}
		defer senders[i].Close()
	}
	for _, f := range free { // GStreamer takes them over
		f.Close()
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	warm(b, senders[n-1], listeners[n-1])
	flow := plain{senders: senders, listeners: listeners}
	used := childTime(command.Process.Pid)
	b.ResetTimer()
	flow.run(b.N * 50)
	b.StopTimer()
	used = childTime(command.Process.Pid) - used
	cancel()
	if err := command.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		b.Log(err)
	}
	if len(flow.took) == 0 {
		b.Fatal("nothing arrived")
	}
	slices.Sort(flow.took)
	sent := n * b.N * 50
	b.ReportMetric(float64(flow.took[len(flow.took)*99/100])/1e6, "p99-ms")
	b.ReportMetric(float64(flow.took[len(flow.took)/2])/1e6, "p50-ms")
	b.ReportMetric(100*float64(sent-len(flow.took))/float64(sent), "%lost")
	b.ReportMetric(used.Seconds()/b.Elapsed().Seconds(), "cores")
	b.ReportMetric(float64(used.Microseconds())/float64(len(flow.took)), "cpu-us/adu")
}

func udpAnywhere(b *testing.B) *net.UDPConn {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// warm sends on one stream until something comes back.
func warm(b *testing.B, out net.Conn, in *net.UDPConn) {
	for n := range 1000 {
		out.Write(packetL16(uint16(60000+n), nil))
		in.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := in.Read(make([]byte, 2000)); err == nil {
			in.SetReadDeadline(time.Time{})
			return
		}
	}
	b.Fatal("GStreamer passes nothing on")
}

// packetL16 is an RTP packet of 20 ms.
func packetL16(sequence uint16, payload []byte) []byte {
	b := []byte{0x80, 96}
	b = binary.BigEndian.AppendUint16(b, sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(sequence)*160)
	b = binary.BigEndian.AppendUint32(b, 1)
	return append(b, append(payload, make([]byte, 320-len(payload))...)...)
}

// plain is streams of plain RTP.
type plain struct {
	senders   []net.Conn
	listeners []*net.UDPConn
	mu        sync.Mutex
	took      []time.Duration
}

// run sends packets of all the streams at their times. The sample values tell their number: half of what was sent.
func (p *plain) run(packets int) {
	sent := make([][]int64, len(p.senders)) // when, by stream and number
	var sources, sinks sync.WaitGroup
	begin := time.Now().Add(50 * time.Millisecond)
	for i := range p.senders {
		sent[i] = make([]int64, packets)
		offset := 20 * time.Millisecond * time.Duration(i) / time.Duration(len(p.senders))
		sinks.Go(func() { p.listen(i, sent[i]) })
		sources.Go(func() {
			for n := range packets {
				time.Sleep(time.Until(begin.Add(offset + time.Duration(n)*20*time.Millisecond)))
				sent[i][n] = time.Now().UnixNano()
				payload := binary.BigEndian.AppendUint16(nil, uint16(2*(n+1))) // halved on its way
				p.senders[i].Write(packetL16(uint16(n), payload))
			}
		})
	}
	sources.Wait()
	time.Sleep(300 * time.Millisecond)
	for _, l := range p.listeners {
		l.Close()
	}
	sinks.Wait()
}

func (p *plain) listen(stream int, sent []int64) {
	b := make([]byte, 2000)
	seen := make([]bool, len(sent))
	for {
		n, err := p.listeners[stream].Read(b)
		if err != nil {
			return
		}
		now := time.Now().UnixNano()
		if n < 14 {
			continue
		}
		number := int(binary.BigEndian.Uint16(b[12:])) - 1
		if number < 0 || number >= len(sent) || seen[number] {
			continue
		}
		seen[number] = true
		p.mu.Lock()
		p.took = append(p.took, time.Duration(now-sent[number]))
		p.mu.Unlock()
	}
}

// childTime is the processor time that a process has used (proc(5)); its unit is a hundredth of a second.
func childTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	var skip string
	var user, system int64
	fields := string(b[slices.Index(b, ')')+2:])
	if _, err := fmt.Sscan(fields, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &user, &system); err != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
