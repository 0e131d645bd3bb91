package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

func start(t *testing.T, cfg Config) *Relay {
	r := New(cfg)
	t.Logf("seed %d", r.Seed())
	t.Cleanup(func() { r.Close(); r.Close() })
	return r
}

// target is a real socket that is reached through the relay.
func target(t *testing.T, r *Relay) (out net.Conn, in net.PacketConn) {
	t.Helper()
	in, err := world.Real().Net.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err = r.World().Net.Dial(t.Context(), "udp", in.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	in.SetReadDeadline(time.Now().Add(20 * time.Second))
	out.SetReadDeadline(time.Now().Add(20 * time.Second))
	return out, in
}

// fates sends n datagrams and returns those that come, in order of arrival. They are sent slowly, so that the kernel
// loses none.
func fates(t *testing.T, cfg Config, n int) (got []int) {
	out, in := target(t, start(t, cfg))
	go func() {
		for i := range n {
			out.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
			if i%20 == 19 {
				time.Sleep(ms)
			}
		}
	}()
	b := make([]byte, 10)
	for {
		in.SetReadDeadline(time.Now().Add(300 * ms))
		k, _, err := in.ReadFrom(b)
		if err != nil {
			return got
		}
		got = append(got, int(binary.BigEndian.Uint32(b[:k])))
	}
}

// The same seed gives the same fates, another gives others; shares are about what was asked for.
func TestFates(t *testing.T) {
	const n = 1000
	cfg := Config{Seed: 7, There: Faults{Link: world.Link{Loss: 0.1, Duplicate: 0.1, Reorder: 0.05}}}
	first := fates(t, cfg, n)
	again := fates(t, cfg, n)
	sorted := func(s []int) []int { s = slices.Clone(s); slices.Sort(s); return s }
	if !slices.Equal(sorted(first), sorted(again)) {
		t.Errorf("%d and %d came with one seed, not the same ones", len(first), len(again))
	}
	cfg.Seed = 8
	if slices.Equal(sorted(first), sorted(fates(t, cfg, n))) {
		t.Error("another seed draws the same fates")
	}
	whole := slices.Compact(sorted(first))
	if lost := n - len(whole); lost < n/20 || lost > n/6 {
		t.Errorf("%d of %d lost", lost, n)
	}
	if twice := len(first) - len(whole); twice < n/20 || twice > n/6 {
		t.Errorf("%d of %d came twice", twice, n)
	}
	if slices.IsSorted(first) {
		t.Error("all came in order")
	}
	clean := fates(t, Config{}, n)
	if len(clean) != n || !slices.IsSorted(clean) {
		t.Errorf("without faults %d of %d came", len(clean), n)
	}
}

func TestDelayAndAnswer(t *testing.T) {
	r := start(t, Config{There: Faults{Link: world.Link{Delay: 30 * ms}}, Back: Faults{Link: world.Link{Delay: 50 * ms}}})
	out, in := target(t, r)
	begin := time.Now()
	out.Write([]byte("ping"))
	b := make([]byte, 10)
	n, from, err := in.ReadFrom(b)
	if took := time.Since(begin); err != nil || took < 30*ms {
		t.Fatalf("there in %v, %v", took, err)
	}
	in.WriteTo(b[:n], from)
	if _, err := out.Read(b); err != nil || string(b[:n]) != "ping" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if took := time.Since(begin); took < 80*ms {
		t.Errorf("there and back in %v", took)
	}
}

// At 100 kB/s 20 kB of datagrams take 200 ms; what would wait longer is lost.
func TestThrottledDatagrams(t *testing.T) {
	out, in := target(t, start(t, Config{There: Faults{Rate: 100_000}}))
	begin := time.Now()
	for range 100 {
		out.Write(make([]byte, 1000))
	}
	n, b := 0, make([]byte, 2000)
	var last time.Time
	for {
		in.SetReadDeadline(time.Now().Add(200 * ms))
		if _, _, err := in.ReadFrom(b); err != nil {
			break
		}
		n++
		last = time.Now()
	}
	if took := last.Sub(begin); n < 20 || n > 40 || took < time.Duration(n-1)*10*ms {
		t.Errorf("%d kB in %v", n, took)
	}
}

func TestCutDatagrams(t *testing.T) {
	r := start(t, Config{})
	out, in := target(t, r)
	r.Cut()
	r.Cut()
	out.Write([]byte("lost"))
	b := make([]byte, 10)
	in.SetReadDeadline(time.Now().Add(100 * ms))
	if n, _, err := in.ReadFrom(b); err == nil {
		t.Errorf("%q came through a cut", b[:n])
	}
	r.Heal()
	r.Heal()
	out.Write([]byte("back"))
	in.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, _, err := in.ReadFrom(b); err != nil || string(b[:n]) != "back" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

// streams joins two ends through the relay.
func streams(t *testing.T, r *Relay) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = r.World().Net.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	for _, c := range []net.Conn{near, far} {
		c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return near, far
}

// A stream comes whole and in order through delay, jitter and a cut, each direction ends by itself.
func TestStream(t *testing.T) {
	r := start(t, Config{There: Faults{Link: world.Link{Delay: 5 * ms, Jitter: 10 * ms}, Rate: 4 << 20}})
	near, far := streams(t, r)
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	begin := time.Now()
	go func() {
		near.Write(data[:len(data)/2])
		r.Cut()
		time.AfterFunc(50*ms, r.Heal)
		near.Write(data[len(data)/2:])
		near.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
	}
	if took := time.Since(begin); took < 250*ms {
		t.Errorf("1 MiB at 4 MiB/s in %v", took)
	}
	if _, err := far.Write([]byte("thanks")); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if got, err := io.ReadAll(near); err != nil || string(got) != "thanks" {
		t.Errorf("%q, %v", got, err)
	}
}

// A target that refuses resets the stream.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c, err := start(t, Config{}).World().Net.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		return // reset before the dial was through
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 {
		t.Error("nobody listens, and somebody answers")
	}
}

func TestAfterClose(t *testing.T) {
	r := start(t, Config{})
	near, _ := streams(t, r)
	r.Close()
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the stream outlives the relay")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := r.World().Net.Dial(ctx, "udp", "127.0.0.1:9"); err == nil {
		t.Error("a closed relay opens flows")
	}
	if _, err := r.Forward("ip", "127.0.0.1"); err == nil {
		t.Error("a relay for raw IP")
	}
}
