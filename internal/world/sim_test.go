package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

const (
	ipA, ipB, ipC = "10.0.0.1", "10.0.0.2", "10.0.0.3"
	ms            = time.Millisecond
)

// rig is a receiving and a sending datagram socket.
func rig(t *testing.T, s *Sim) (in net.PacketConn, out net.Conn) {
	t.Helper()
	in, err := s.Host(ipB).Net.ListenPacket(t.Context(), "udp", ":7000")
	if err != nil {
		t.Fatal(err)
	}
	out, err = s.Host(ipA).Net.Dial(t.Context(), "udp", ipB+":7000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	return in, out
}

// received sends n datagrams, a millisecond apart, and lists what came and when.
func received(t *testing.T, s *Sim, n int) (which []byte, when []time.Duration) {
	in, out := rig(t, s)
	begin := time.Now()
	go func() {
		for i := range n {
			out.Write([]byte{byte(i)})
			time.Sleep(ms)
		}
	}()
	in.SetReadDeadline(begin.Add(time.Hour))
	for b := make([]byte, 10); ; {
		size, from, err := in.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return which, when
		}
		if err != nil || size != 1 || from.String() != out.LocalAddr().String() {
			t.Fatalf("%d bytes from %v, %v", size, from, err)
		}
		which = append(which, b[0])
		when = append(when, time.Since(begin))
	}
}

func TestSimDatagrams(t *testing.T) {
	count := func(b []byte, x byte) (n int) {
		for _, y := range b {
			if x == y {
				n++
			}
		}
		return n
	}
	for _, tc := range []struct {
		name  string
		link  Link
		check func(t *testing.T, which []byte, when []time.Duration)
	}{
		{"clean", Link{Delay: 30 * ms}, func(t *testing.T, which []byte, when []time.Duration) {
			for i := range 200 {
				if which[i] != byte(i) || when[i] != time.Duration(i)*ms+30*ms {
					t.Fatalf("%d came as number %d after %v", which[i], i, when[i])
				}
			}
		}},
		{"jitter keeps the order", Link{Delay: 30 * ms, Jitter: 20 * ms}, func(t *testing.T, which []byte, when []time.Duration) {
			if len(which) != 200 || !slices.IsSorted(which) {
				t.Errorf("%v", which)
			}
		}},
		{"loss", Link{Loss: 0.25}, func(t *testing.T, which []byte, _ []time.Duration) {
			if len(which) < 120 || len(which) > 180 {
				t.Errorf("%d of 200 came", len(which))
			}
		}},
		{"duplication", Link{Duplicate: 0.25}, func(t *testing.T, which []byte, _ []time.Duration) {
			twice := 0
			for i := range 200 {
				twice += count(which, byte(i)) - 1
			}
			if twice < 20 || twice > 80 {
				t.Errorf("%d of 200 came twice", twice)
			}
		}},
		{"reordering", Link{Reorder: 0.1}, func(t *testing.T, which []byte, _ []time.Duration) {
			if len(which) != 200 || slices.IsSorted(which) {
				t.Errorf("%d came, in order", len(which))
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				which, when := received(t, NewSim(1, tc.link), 200)
				tc.check(t, which, when)
			})
		})
	}
}

func TestSimIsDeterministic(t *testing.T) {
	run := func(seed uint64) (out string) {
		synctest.Test(t, func(t *testing.T) {
			s := NewSim(seed, Link{Delay: 10 * ms, Jitter: 30 * ms, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1})
			which, when := received(t, s, 200)
			out = fmt.Sprint(which, when, s.Host(ipA).Uint64(), s.Host(ipB).Uint64())
		})
		return out
	}
	if first, again := run(7), run(7); first != again {
		t.Error("two runs with one seed differ")
	}
	if run(7) == run(8) {
		t.Error("two seeds make the same world")
	}
}

func TestSimCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSim(1, Link{Delay: 10 * ms})
		in, out := rig(t, s)
		l, err := s.Host(ipB).Net.Listen(t.Context(), "tcp", ipB+":80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := s.Host(ipA).Net.Dial(t.Context(), "tcp", ipB+":80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()

		c.Write([]byte("before "))
		time.Sleep(5 * ms)
		s.Cut(ipA, ipB) // the first piece is under way
		c.Write([]byte("while "))
		out.Write([]byte("lost"))
		in.SetReadDeadline(time.Now().Add(time.Minute))
		if n, _, err := in.ReadFrom(make([]byte, 9)); err == nil {
			t.Errorf("%d bytes of a datagram crossed the cut", n)
		}
		far.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := far.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a stream crossed the cut: %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Host(ipA).Net.Dial(short, "tcp", ipB+":80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial across the cut: %v", err)
		}

		s.Heal(ipA, ipB)
		c.Write([]byte("after"))
		c.Close()
		far.SetReadDeadline(time.Time{})
		got, err := io.ReadAll(far)
		if err != nil || string(got) != "before while after" {
			t.Errorf("%q, %v", got, err)
		}
		out.Write([]byte("arrives"))
		in.SetReadDeadline(time.Now().Add(time.Minute))
		if _, _, err := in.ReadFrom(make([]byte, 9)); err != nil {
			t.Error(err)
		}
	})
}

func TestSimMulticast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSim(1, Link{Delay: 10 * ms})
		group := netip.MustParseAddrPort("239.255.77.1:7701")
		var conns []net.PacketConn
		for _, ip := range []string{ipA, ipB, ipB, ipC} {
			c, err := s.Host(ip).Net.ListenMulticast(t.Context(), group, netip.MustParseAddr(ip))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conns = append(conns, c)
		}
		conns[3].Close()
		sender, err := s.Host(ipA).Net.ListenPacket(t.Context(), "udp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer sender.Close()
		if _, err := sender.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(group)); err != nil {
			t.Fatal(err)
		}
		for i, c := range conns[:3] {
			b := make([]byte, 10)
			c.SetReadDeadline(time.Now().Add(time.Second))
			n, from, err := c.ReadFrom(b)
			if err != nil || string(b[:n]) != "hello" || from.String() != sender.LocalAddr().String() {
				t.Errorf("member %d: %q from %v, %v", i, b[:n], from, err)
			}
		}
	})
}

func TestSimRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSim(1, Link{Delay: 10 * ms})
		begin := time.Now()
		_, err := s.Host(ipA).Net.Dial(t.Context(), "tcp", ipB+":81")
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(begin) != 20*ms {
			t.Errorf("%v after %v, want a refusal after a round trip", err, time.Since(begin))
		}
		if _, err := s.Host(ipA).Net.Listen(t.Context(), "tcp", ipB+":80"); err == nil {
			t.Error("a host listens at another's address")
		}
		l, err := s.Host(ipA).Net.Listen(t.Context(), "tcp", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Host(ipA).Net.Listen(t.Context(), "tcp", ":80"); err == nil {
			t.Error("two listen at one port")
		}
		l.Close()
		if l, err = s.Host(ipA).Net.Listen(t.Context(), "tcp", ":80"); err != nil {
			t.Error("the port of a closed listener is not free:", err)
		}
		l.Close()
	})
}

// A link is changed one way; the other way stays.
func TestSimSetLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSim(1, Link{Delay: 10 * ms})
		s.SetLink(ipA, ipB, Link{Delay: 30 * ms})
		in, out := rig(t, s)
		begin := time.Now()
		out.Write([]byte("there"))
		b := make([]byte, 10)
		_, from, err := in.ReadFrom(b)
		if err != nil || time.Since(begin) != 30*ms {
			t.Errorf("there in %v, %v", time.Since(begin), err)
		}
		in.WriteTo([]byte("back"), from)
		if n, err := out.Read(b); err != nil || string(b[:n]) != "back" || time.Since(begin) != 40*ms {
			t.Errorf("and back after %v: %q, %v", time.Since(begin), b[:n], err)
		}
	})
}

func TestSimClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSim(1, Link{})
		s.SetClock(ipB, time.Minute)
		if d := s.Host(ipB).Now().Sub(s.Host(ipA).Now()); d != time.Minute {
			t.Errorf("the clocks differ by %v", d)
		}
	})
}

// Streams meet the general tests of net.Conn.
func TestSimStreamIsAConn(t *testing.T) {
	nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
		s := NewSim(1, Link{Delay: 10 * time.Microsecond})
		l, err := s.Host(ipB).Net.Listen(t.Context(), "tcp", ":80")
		if err != nil {
			return nil, nil, nil, err
		}
		if a, err = s.Host(ipA).Net.Dial(t.Context(), "tcp", ipB+":80"); err != nil {
			return nil, nil, nil, err
		}
		if b, err = l.Accept(); err != nil {
			return nil, nil, nil, err
		}
		return a, b, func() { a.Close(); b.Close(); l.Close() }, nil
	})
}

// The real network joins groups on loopback as the simulated one does.
func TestRealMulticast(t *testing.T) {
	w := Real()
	group, via := netip.MustParseAddrPort("239.255.77.9:7709"), netip.MustParseAddr("127.0.0.1")
	a, err := w.Net.ListenMulticast(t.Context(), group, via)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := w.Net.ListenMulticast(t.Context(), group, via)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := a.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(group)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.PacketConn{a, b} {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		got := make([]byte, 10)
		if n, _, err := c.ReadFrom(got); err != nil || string(got[:n]) != "hello" {
			t.Errorf("%q, %v", got[:n], err)
		}
	}
}
