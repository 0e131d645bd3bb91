package cmd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	"ninja/apc/apcpb"
	"ninja/base/basepb"
	"ninja/ca"
	"ninja/ca/capb"
	"ninja/capability/capabilitypb"
	"ninja/cmd/home"
	"ninja/operators/host/hostpb"
	"ninja/sds/sdspb"
)

// times is a small count, or the full one when proving.
func times(small, full int) int {
	if proving() {
		return full
	}
	return small
}

// ports are what a process listens at, by the protocol that /proc/net names.
func ports(t *testing.T, pid int, protocol string) (all []netip.AddrPort) {
	t.Helper()
	inodes := map[string]bool{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				inodes[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, protocol))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 10 || !inodes[f[9]] || protocol == "tcp" && f[3] != "0A" || f[2] != "00000000:0000" {
			continue
		}
		var a [4]byte
		var port uint16
		if _, err := fmt.Sscanf(f[1], "%2x%2x%2x%2x:%4x", &a[3], &a[2], &a[1], &a[0], &port); err == nil {
			all = append(all, netip.AddrPortFrom(netip.AddrFrom4(a), port))
		}
	}
	return all
}

// unasked is a datagram that anybody can send: questions of the protocols that are spoken on UDP, whole and cut, what was
// heard on the channels, and noise.
func unasked(r *rand.Rand, heard [][]byte) []byte {
	noise := make([]byte, 1+r.IntN(1472))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	switch r.IntN(6) {
	case 0:
		if len(heard) > 0 {
			return forged(r, heard)
		}
	case 1: // the question for what a server announces, of any length
		return append([]byte{1, 7, 0, 0, byte(r.IntN(4))}, make([]byte, r.IntN(1396))...)
	case 2: // DNS: everything under a name, answered by unicast if it can be had
		name := []string{"\x05local", "\x09_services\x07_dns-sd\x04_udp\x05local", "\x04_ipp\x04_tcp\x05local"}[r.IntN(3)]
		return append(append([]byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...), 0, 0, 255, 0x80, 1)
	case 3: // STUN binding request
		return append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, noise[:min(len(noise), 12)]...)
	case 4: // RTP and RTCP of somebody
		return append([]byte{0x80, byte([]int{0, 8, 96, 200, 201}[r.IntN(5)])}, noise...)
	}
	return noise
}

// Threats, row 13: "nothing unauthenticated is answered with more than was asked: every UDP port, bytes out over bytes in
// at most 1.0".
func TestNoPortAmplifies(t *testing.T) {
	s := newSystem(t)
	s.run("all", fmt.Sprintf(`roles:
  ca: {domain: test.ninja}
  capability: {}
  sds: {channel: '%s:%d', udp: '127.0.0.1:%d', period: 1s}
  apc: {}
  proxy: {acl: ['everyone: find, use']}
  base: {services: [{component: time-of-day, name: clock, acl: ['everyone: find, use']}]}
  unit: {name: u, hang-up: never, acl: ['everyone: find, use, listen-from, send-to']}
  dnssd: {import: [{type: _ipp._tcp}], export: [{type: _http._tcp, find: [kind=time-of-day], address: node/@control}]}
`, s.group, s.port+1, s.port))
	const request = "phone:u ! ?time-of-day ! phone:u"
	s.eventually("a path runs", func() bool { return s.tool("all/admin", "ninjactl", "path", "create", request).code == 0 })
	pid := s.kids["all"].Process.Pid
	open := ports(t, pid, "udp")
	if len(open) < 5 {
		t.Fatalf("only %v are open", open)
	}
	conn := anybody(t)
	defer conn.Close()
	source := rand.New(rand.NewPCG(13, 13))
	each := times(300, 20_000)
	worst, worstAt, sum := 0.0, netip.AddrPort{}, 0
	b := make([]byte, 4096)
	for _, to := range open {
		if !to.Addr().IsMulticast() {
			to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
		}
		in, out := 0, 0
		hear := func(patience time.Duration) {
			for {
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				n, _, err := conn.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				out += n
			}
		}
		for i := range each {
			d := unasked(source, nil)
			if _, err := conn.WriteToUDPAddrPort(d, to); err == nil {
				in += len(d)
			}
			if i%64 == 0 {
				hear(time.Millisecond)
			}
		}
		hear(time.Duration(times(60, 300)) * time.Millisecond)
		sum += each
		if f := float64(out) / float64(max(in, 1)); f >= worst {
			worst, worstAt = f, to
		}
		t.Logf("%v: %d bytes in, %d out", to, in, out)
	}
	t.Logf("PROVE amplification: %d datagrams of an unauthenticated sender to %d UDP ports: at most %.3f bytes out for a byte in (at %v)", sum, len(open), worst, worstAt)
	if worst > 1 {
		t.Errorf("%v answers with %.2f times what it is asked", worstAt, worst)
	}
	s.survived("all", pid)
}

// survived fails unless the daemon is the same process as before, answers, and nothing in it has panicked.
func (s *system) survived(name string, pid int) {
	s.t.Helper()
	cmd := s.kids[name]
	if cmd.Process.Pid != pid || cmd.Process.Signal(syscall.Signal(0)) != nil {
		s.t.Fatal("the daemon has ended")
	}
	if r := s.tool(name+"/admin", "sdsquery", "--count", "kind=time-of-day"); r.code != 0 || strings.TrimSpace(r.out) != "1" {
		s.t.Errorf("the daemon does not answer: %+v", r)
	}
	log, err := os.ReadFile(filepath.Join(s.dir, name+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, bad := range []string{"panic", "goroutine "} {
		if i := bytes.Index(log, []byte(bad)); i >= 0 {
			s.t.Errorf("the log speaks of a %s: %s", bad, log[max(0, i-200):min(len(log), i+2000)])
		}
	}
}

// raw carries messages as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = slices.Clone(b); return nil }
func (raw) Name() string                    { return "proto" }

var _ encoding.Codec = raw{}

// message is what looks like a protobuf message for some way: fields of any number and kind, nested, cut, and noise.
func message(r *rand.Rand, depth int) (m []byte) {
	for range r.IntN(6) {
		field := 1 + r.IntN(14)
		switch r.IntN(5) {
		case 0:
			m = append(m, byte(field<<3), byte(r.Uint32())&0x7f)
		case 1:
			m = append(append(m, byte(field<<3|1)), make([]byte, 8)...)
		default:
			var inside []byte
			switch r.IntN(4) {
			case 0:
				inside = []byte([]string{"spiffe://test.ninja/user/admin", "<a><b/></a>", "//a[b]", "everyone", "phone:u ! ?time-of-day ! phone:u", "load", "mem", "rtp"}[r.IntN(8)])
			case 1:
				if depth < 4 {
					inside = message(r, depth+1)
				}
			default:
				inside = make([]byte, r.IntN(40))
				for i := range inside {
					inside[i] = byte(r.Uint32())
				}
			}
			if len(inside) < 128 {
				m = append(append(m, byte(field<<3|2), byte(len(inside))), inside...)
			}
		}
	}
	if len(m) > 0 && r.IntN(8) == 0 {
		m = m[:r.IntN(len(m))]
	}
	return m
}

// Threats, row 14: "fuzz of wire, control and command line; process survives". The whole daemon, every TCP and UDP port,
// every method of every service as an authenticated insider, and the tools.
func TestTheDaemonSurvives(t *testing.T) {
	s := newSystem(t)
	s.dev()
	const dev = "dev"
	s.eventually("the clock is found", func() bool { return s.tool("dev/admin", "sdsquery", "kind=time-of-day").code == 0 })
	pid := s.kids[dev].Process.Pid
	source := rand.New(rand.NewPCG(14, 14))
	eve, err := home.Open(t.Context(), filepath.Join(s.dir, s.user("dev/admin", "eve")))
	if err != nil {
		t.Fatal(err)
	}
	listening := ports(t, pid, "tcp")
	if len(listening) < 8 {
		t.Fatalf("only %v listen", listening)
	}
	wire := 0
	for _, to := range listening {
		wire += strangeConnections(t, source, to, eve.Identity, times(4, 300))
	}
	for _, to := range ports(t, pid, "udp") {
		wire += strangeDatagrams(t, source, to, times(200, 20_000))
	}
	s.survived(dev, pid)
	calls := 0
	for _, to := range listening {
		calls += strangeCalls(t, source, to, eve.Identity, times(3, 200))
	}
	s.survived(dev, pid)
	lines := s.strangeCommandLines(source, times(30, 1500))
	s.survived(dev, pid)
	t.Logf("PROVE fuzz of the running daemon: %d hostile connections and datagrams to %d TCP ports and all UDP ports, %d calls of every method by an insider, %d command lines: the process survives, no panic", wire, len(listening), calls, lines)
}

// strangeConnections talks nonsense: before TLS, within a handshake, and as somebody known after it.
func strangeConnections(t *testing.T, r *rand.Rand, to netip.AddrPort, id *ca.Identity, n int) int {
	hello := clientHello(t)
	for i := range n {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			t.Fatalf("%v no longer takes connections: %v", to, err)
		}
		_ = c.SetDeadline(time.Now().Add(200 * time.Millisecond))
		b := make([]byte, 1+r.IntN(3000))
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		switch i % 4 {
		case 1:
			b = slices.Clone(hello)
			b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
		case 2:
			b = []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		case 3: // the frames of HTTP/2 and of hops, garbled, from somebody who may connect
			if secure, _, err := ca.ClientCredentials(id, nil).ClientHandshake(ctx, to.String(), c); err == nil {
				c = secure
				b = append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), b...)
			}
		}
		_, _ = c.Write(b)
		_, _ = c.Read(make([]byte, 512))
		c.Close()
		cancel()
	}
	return n
}

// clientHello is the first flight of a genuine handshake.
func clientHello(t *testing.T) []byte {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Client(a, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}).Handshake()
	_ = b.SetReadDeadline(time.Now().Add(5 * time.Second))
	buffer := make([]byte, 8192)
	n, err := b.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}

// anybody is a socket of somebody on the same link, whose multicast goes there too.
func anybody(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		err = ipv4.NewPacketConn(conn).SetMulticastInterface(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func strangeDatagrams(t *testing.T, r *rand.Rand, to netip.AddrPort, n int) int {
	conn := anybody(t)
	defer conn.Close()
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
	}
	for range n {
		_, _ = conn.WriteToUDPAddrPort(unasked(r, nil), to)
	}
	return n
}

// strangeCalls calls every method of every service at an address with messages that nobody would send.
func strangeCalls(t *testing.T, r *rand.Rand, to netip.AddrPort, id *ca.Identity, n int) (calls int) {
	conn, err := grpc.NewClient("passthrough:///"+to.String(), grpc.WithTransportCredentials(ca.ClientCredentials(id, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, service := range []grpc.ServiceDesc{
		sdspb.Discovery_ServiceDesc, capabilitypb.Manager_ServiceDesc, apcpb.Creator_ServiceDesc, hostpb.Paths_ServiceDesc,
		basepb.Base_ServiceDesc, capb.Authority_ServiceDesc,
	} {
		for range n {
			for _, m := range service.Methods {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				in, out := message(r, 0), []byte(nil)
				_ = conn.Invoke(ctx, "/"+service.ServiceName+"/"+m.MethodName, &in, &out, grpc.ForceCodec(raw{}))
				cancel()
				calls++
			}
			for _, m := range service.Streams {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				st, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/"+service.ServiceName+"/"+m.StreamName, grpc.ForceCodec(raw{}))
				for i := 0; err == nil && i < 5; i++ {
					in := message(r, 0)
					err = st.SendMsg(&in)
				}
				if err == nil {
					out := []byte(nil)
					_ = st.RecvMsg(&out)
				}
				cancel()
				calls++
			}
		}
	}
	return calls
}

// words are what command lines are made of: commands, options, values that mean something somewhere, and what means nothing.
var words = []string{
	"publish", "acl", "get", "set", "grant", "revoke", "who-sees", "list", "delete", "group", "add", "remove", "schema", "show", "check",
	"path", "plan", "catalogue", "base", "whoami", "token", "--for", "user/x", "--output", "json", "xml", "--count", "--explain", "--limit", "-1",
	"--sort=-load", "--xpath", "//*[", "//a[b='c']", "-c", "a/@b", "--lean", "--all", "kind=a|b", "floor<4", "=", "<", "!=x", "=~", "everyone", "find", "group:x",
	"spiffe://dev.ninja/user/eve", "#", "a#b", "phone:dev ! ?time-of-day ! phone:dev", "! ! !", "latency<", "--node", "127.0.0.1:1", "--for=", "\x1b[2J", "\xff\xfe",
	"/dev/null", "/", "", "--", "-", "--help", "--home=/nonexistent", strings.Repeat("a", 5000), "--timeout=1s", "--namespace", "a=b", "--by", "--version", "0",
}

// strangeCommandLines runs the tools with words at random. They may refuse; they may not panic.
func (s *system) strangeCommandLines(r *rand.Rand, n int) int {
	for range n {
		tool := []string{"sdsquery", "ninjactl", "ninjad"}[r.IntN(3)]
		var args []string
		if tool == "ninjad" {
			args = []string{"check"} // the others would run
		}
		for range 1 + r.IntN(5) {
			args = append(args, strings.ReplaceAll(words[r.IntN(len(words))], "\x00", ""))
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Second)
		cmd := exec.CommandContext(ctx, filepath.Join(bin, tool), args...)
		cmd.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, "eve"))
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // publish and the like go on until then
		cmd.WaitDelay = 5 * time.Second
		out, err := cmd.CombinedOutput()
		cancel()
		if bytes.Contains(out, []byte("panic:")) || bytes.Contains(out, []byte("goroutine ")) || err != nil && cmd.ProcessState.ExitCode() < 0 {
			s.t.Errorf("%s %q: %v\n%.2000s", tool, args, err, out)
		}
	}
	return n
}
