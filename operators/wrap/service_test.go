package wrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/connectors"
	"ninja/internal/world"
)

func TestHTTPServiceAnswers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upper", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != "text/plain" || r.Header.Get("Accept") != "text/html" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
		}
		io.WriteString(w, strings.ToUpper(string(b)))
	})
	mux.HandleFunc("POST /moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/upper", http.StatusPermanentRedirect)
	})
	mux.HandleFunc("POST /seen", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/upper", http.StatusSeeOther) })
	mux.HandleFunc("POST /round", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/round", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("POST /away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("POST /long", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, connectors.MaxPayload+1)) })
	mux.HandleFunc("POST /header", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) })
	mux.HandleFunc("POST /slow", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // else the server does not see that the other end has gone
		<-r.Context().Done()
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	r := newRig(t, Config{Allow: loopback(), Timeout: 500 * time.Millisecond})
	for _, path := range []string{"/upper", "/moved"} {
		answers, err := r.run(t, HTTPKey, map[string]string{"url": server.URL + path}, "one", "two")
		if err != nil || payloads(answers) != "ONE|TWO" {
			t.Errorf("%s: %q %v", path, payloads(answers), err)
		}
	}
	for path, want := range map[string]string{
		"/seen": "drops the request", "/round": "redirects", "/away": "may not be at that address", "/long": "more than", "/header": "header",
		"/slow": "deadline", "/nowhere": "status 404",
	} {
		answers, err := r.run(t, HTTPKey, map[string]string{"url": server.URL + path}, "one")
		if err != nil || len(answers) != 0 {
			t.Errorf("%s: %d answers, %v", path, len(answers), err)
		}
		select {
		case note := <-r.notes:
			if !strings.Contains(note, want) {
				t.Errorf("%s: %q, want %q", path, note, want)
			}
		default:
			t.Errorf("%s: nothing noted", path)
		}
	}
}

func TestGRPCServiceAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(asItIs{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		name, _ := grpc.MethodFromServerStream(stream)
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		switch name {
		case "/text.v1.Echo/Upper":
			request = []byte(strings.ToUpper(string(request)))
		case "/text.v1.Echo/Long":
			request = make([]byte, connectors.MaxPayload+100)
		case "/text.v1.Echo/Broken":
			request = []byte{10, 200}
		case "/text.v1.Echo/Slow":
			<-stream.Context().Done()
			return stream.Context().Err()
		default:
			return status.Error(codes.Unimplemented, "no such method")
		}
		return stream.SendMsg(&request)
	}))
	go server.Serve(l)
	defer server.Stop()
	r := newRig(t, Config{Allow: loopback(), Timeout: 500 * time.Millisecond})
	args := func(method, message string) map[string]string {
		return map[string]string{"address": l.Addr().String(), "method": "/text.v1.Echo/" + method, "message": message, "tls": "no"}
	}
	for message, want := range map[string]string{"bytes": "ONE|", "string": "ONE|", "raw": "ONE|"} {
		answers, err := r.run(t, GRPCKey, args("Upper", message), "one", "")
		if err != nil || payloads(answers) != want {
			t.Errorf("%s: %q %v", message, payloads(answers), err)
		}
	}
	for method, want := range map[string]string{"Long": "larger than max", "Broken": "no message", "Slow": "Deadline", "Nothing": "no such method"} {
		answers, err := r.run(t, GRPCKey, args(method, ""), "one")
		if err != nil || len(answers) != 0 {
			t.Errorf("%s: %d answers, %v", method, len(answers), err)
		}
		select {
		case note := <-r.notes:
			if !strings.Contains(note, want) {
				t.Errorf("%s: %q, want %q", method, note, want)
			}
		default:
			t.Errorf("%s: nothing noted", method)
		}
	}
	closed := newRig(t, Config{})
	if answers, _ := closed.run(t, GRPCKey, args("Upper", ""), "one"); len(answers) != 0 || closed.dials.Load() != 0 {
		t.Error("loopback was dialled without leave")
	}
	if note := <-closed.notes; !strings.Contains(note, ErrAddress.Error()) {
		t.Errorf("refused with %q", note)
	}
}

// lenient resolves names as the laxest of resolvers do: numbers in any base and number of parts are IPv4 addresses, names
// with an address in them have it, and some names change their address, or have a good one beside a bad one.
func lenient(asked *int) func(context.Context, string) ([]netip.Addr, error) {
	return func(_ context.Context, host string) ([]netip.Addr, error) {
		*asked++
		public := netip.MustParseAddr("93.184.216.34")
		bad := netip.MustParseAddr("127.0.0.1")
		if a, ok := anyBase(strings.TrimSuffix(host, ".")); ok {
			return []netip.Addr{a}, nil
		}
		switch {
		case strings.HasPrefix(host, "both"):
			return []netip.Addr{public, bad}, nil
		case strings.HasPrefix(host, "many"):
			return append(make([]netip.Addr, 40), public), nil
		case strings.HasPrefix(host, "in-"):
			a, err := netip.ParseAddr(strings.Split(strings.ReplaceAll(strings.TrimPrefix(host, "in-"), "_", ":"), ".example")[0])
			return []netip.Addr{a}, err
		}
		return []netip.Addr{bad}, nil
	}
}

// anyBase is inet_aton: one to four parts in decimal, octal or hexadecimal, the last one taking all that is left.
func anyBase(s string) (netip.Addr, bool) {
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		if i == len(parts)-1 {
			v = v<<(8*(4-i)) | n
		} else {
			v = v<<8 | n&255
		}
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

// targets are addresses behind which there is what a stranger wants.
func targets() []netip.Addr {
	var all []netip.Addr
	for _, s := range []string{"127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.5", "172.16.0.1", "172.31.255.254", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"} {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// forms writes an IPv4 address in all the ways that have been used to pass for another.
func forms(a netip.Addr) []string {
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	hex := fmt.Sprintf("%02x%02x:%02x%02x", b[0], b[1], b[2], b[3])
	six := func(format string) string { return "[" + fmt.Sprintf(format, hex) + "]" }
	name := func(s string) string { return "in-" + strings.ReplaceAll(s, ":", "_") + ".example" }
	return []string{
		a.String(), a.String() + ".", fmt.Sprint(v), fmt.Sprintf("0x%x", v), fmt.Sprintf("0X%X", v), fmt.Sprintf("0%o", v),
		fmt.Sprintf("0x%x.0x%x.0x%x.0x%x", b[0], b[1], b[2], b[3]), fmt.Sprintf("0%o.0%o.0%o.0%o", b[0], b[1], b[2], b[3]),
		fmt.Sprintf("%d.%d", b[0], v&0xffffff), fmt.Sprintf("%d.%d.%d", b[0], b[1], v&0xffff), fmt.Sprintf("0x%x.%d", b[0], v&0xffffff),
		fmt.Sprintf("00%o.%d.%d.%d", b[0], b[1], b[2], b[3]),
		six("::ffff:%s"), six("0:0:0:0:0:ffff:%s"), "[::ffff:" + a.String() + "]", six("::%s"), six("::ffff:0:%s"),
		six("64:ff9b::%s"), "[64:ff9b::" + a.String() + "]", six("64:ff9b:1::%s"),
		six("2002:%s::"), six("2002:%s::1"), six("2001:0:%s::1"), six("2001:4860::5efe:%s"), six("2001:4860::200:5efe:%s"),
		six("fe80::5efe:%s"), six("fd00::%s"), six("fec0::%s"), six("100::%s"), six("ff02::%s"), six("2001:db8::%s"), "[::ffff:" + a.String() + "%25eth0]",
		name(a.String()), name("::ffff:" + a.String()), name("64:ff9b::" + a.String()), name("2002:" + hex + "::"),
		"both-" + a.String(), "many-" + a.String(), "rebound-" + a.String() + ".example", "localhost." + fmt.Sprint(v),
	}
}

// Threat 16: "500 bypass forms (decimal, mapped, NAT64, rebinding, redirects), 0 connections". Each is given as the
// address of an HTTP service, of a gRPC service, and as a redirect of an HTTP service that is allowed.
func TestNoFormPasses(t *testing.T) {
	asked := 0
	next := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "http://"+next+":80/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	allowed := netip.MustParseAddrPort(server.Listener.Addr().String())
	r := newRig(t, Config{Resolve: lenient(&asked), Timeout: 5 * time.Second})
	// The one address that is allowed is another than all those that are tried.
	redirecting := newRig(t, Config{Resolve: lenient(&asked), Timeout: 5 * time.Second})
	redirecting.world.Net = &onlyTo{counted{world.Real().Net, &redirecting.dials}, "93.184.216.34:80", allowed.String()}
	n := 0
	for _, target := range targets() {
		for _, form := range forms(target) {
			n++
			for program, args := range map[string]map[string]string{
				HTTPKey: {"url": "http://" + form + "/"}, GRPCKey: {"address": form + ":443", "method": "/a.B/C", "tls": "no"},
			} {
				op, err := r.make(program, args)
				if err != nil {
					continue
				}
				w := op.(*wrapped)
				if _, err := w.ask(t.Context(), []byte("x")); err == nil {
					t.Errorf("%s %s was answered", program, form)
				}
				w.Close()
			}
			next = form
			op, err := redirecting.make(HTTPKey, map[string]string{"url": "http://in-93.184.216.34.example/"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := op.(*wrapped).ask(t.Context(), []byte("x")); err == nil {
				t.Errorf("a redirect to %s was answered", form)
			}
			op.(*wrapped).Close()
		}
	}
	if n < 500 || r.dials.Load() != 0 || redirecting.dials.Load() != int64(n) {
		t.Errorf("%d forms made %d connections, and as redirects %d, want 0 and one each to the service itself",
			n, r.dials.Load(), redirecting.dials.Load())
	}
	t.Logf("PROVE %d forms of forbidden addresses, each as HTTP, as gRPC and as a redirect: %d connections to them; %d names resolved", n, r.dials.Load(), asked)
}

// onlyTo dials what stands for a public address and nothing else.
type onlyTo struct {
	counted
	from, to string
}

func (o *onlyTo) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address != o.from {
		o.dials.Add(1 << 20) // a connection that must not be
		return nil, errors.New("no route")
	}
	return o.counted.Dial(ctx, network, o.to)
}

// A name that changes its address between check and dial: what was checked is what is dialled, and it is asked for once.
func TestRebinding(t *testing.T) {
	asked := 0
	r := newRig(t, Config{Timeout: time.Second, Resolve: func(context.Context, string) ([]netip.Addr, error) {
		if asked++; asked == 1 {
			return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}})
	var dialled []string
	r.world.Net = dialer{r.world.Net, func(address string) { dialled = append(dialled, address) }}
	r.run(t, HTTPKey, map[string]string{"url": "http://changes.example/"}, "a", "b", "c")
	if strings.Join(dialled, " ") != "93.184.216.34:80" {
		t.Errorf("dialled %v, want the checked address once: the later ones are refused", dialled)
	}
}

type dialer struct {
	counter interface {
		Listen(context.Context, string, string) (net.Listener, error)
		ListenPacket(context.Context, string, string) (net.PacketConn, error)
		ListenMulticast(context.Context, netip.AddrPort, netip.Addr) (net.PacketConn, error)
	}
	note func(string)
}

func (d dialer) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return d.counter.Listen(ctx, network, address)
}
func (d dialer) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return d.counter.ListenPacket(ctx, network, address)
}
func (d dialer) ListenMulticast(ctx context.Context, g netip.AddrPort, via netip.Addr) (net.PacketConn, error) {
	return d.counter.ListenMulticast(ctx, g, via)
}
func (d dialer) Dial(_ context.Context, _, address string) (net.Conn, error) {
	d.note(address)
	return nil, errors.New("nobody there")
}

// Public addresses are reached, the allowed ones as well, in whatever form they come.
func TestPolicy(t *testing.T) {
	p := newPolicy(Config{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}})
	for _, s := range []string{"93.184.216.34", "::ffff:93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "2a00::1", "10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5"} {
		if !p.allowed(netip.MustParseAddr(s)) {
			t.Errorf("%s is refused", s)
		}
	}
	for _, s := range []string{"10.2.0.1", "fd00:2::1", "fe80::1%eth0", "::", "::1", "64:ff9b::808:808", "2002:808:808::1", "192.88.99.1"} {
		if p.allowed(netip.MustParseAddr(s)) {
			t.Errorf("%s is allowed", s)
		}
	}
	if p.allowed(netip.Addr{}) {
		t.Error("no address is allowed")
	}
}

// Whatever the bytes of an address are, what is allowed is global unicast and nothing that holds a private IPv4 address.
func FuzzPolicy(f *testing.F) {
	for _, a := range targets() {
		b := a.As16()
		f.Add(b[:])
		f.Add(a.AsSlice())
	}
	p := newPolicy(Config{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || !p.allowed(a) {
			return
		}
		if a = a.Unmap(); !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
			t.Errorf("%v is allowed", a)
		}
	})
}
