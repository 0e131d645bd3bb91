package hop

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What an Outlet sends an inlet takes, datagram by datagram, with the address that it came from, without an allocation;
// deadlines and closing end a wait as they do at any socket.
func TestKernelSockets(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			if host == "::1" {
				continue // there is no IPv6 here
			}
			t.Fatal(err)
		}
		in := newInlet(l.(*net.UDPConn))
		c, err := net.Dial("udp", l.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		out := NewOutlet(c)
		l.SetReadDeadline(time.Now().Add(10 * time.Second))
		buffer := make([]byte, 2000)
		sent := bytes.Repeat([]byte("0123456789"), 100)
		allocs := testing.AllocsPerRun(200, func() {
			if n, err := out.Write(sent); n != len(sent) || err != nil {
				t.Fatal(n, err)
			}
			n, from, err := in.read(buffer)
			if err != nil || !bytes.Equal(buffer[:n], sent) || from != c.LocalAddr().(*net.UDPAddr).AddrPort() {
				t.Fatalf("%d bytes from %v: %v", n, from, err)
			}
		})
		if allocs > 0 {
			t.Errorf("%v allocations a datagram", allocs)
		}
		l.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := in.read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		l.Close()
		if _, _, err := in.read(buffer); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		out.Write(sent) // nobody is there, which the kernel says of the next
		if _, err := out.Write(sent); err == nil {
			t.Error("a datagram to nobody was sent")
		}
		out.Close()
		if _, err := out.Write(sent); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// A socket holds no less than the system's limit lets anybody ask for.
func TestHoldBytes(t *testing.T) {
	held := func(ask func(*net.UDPConn)) (n int) {
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ask(l.(*net.UDPConn))
		raw, err := l.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	unasked := held(func(*net.UDPConn) {})
	asked := held(func(c *net.UDPConn) { c.SetReadBuffer(trunkBuffer) })
	if got := held(func(c *net.UDPConn) { holdBytes(c, trunkBuffer) }); got < asked || got < unasked {
		t.Errorf("holds %d bytes, unasked %d, asked %d", got, unasked, asked)
	}
}
