package sds

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	"ninja/capability"
	"ninja/internal/world"
	"ninja/sds/index"
	"ninja/sds/sdspb"
)

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// open is a transport in memory that believes everybody: the floor that security is measured against.
type open struct{ ca.AuthInfo }

func (o open) ClientHandshake(_ context.Context, _ string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, o.AuthInfo, nil
}
func (o open) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, o.AuthInfo, nil
}
func (o open) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "none"}
}
func (o open) Clone() credentials.TransportCredentials { return o }
func (o open) OverrideServerName(string) error         { return nil }

// unprotected is a client of the town's store over memory, without TLS and capability.
func (w *town) unprotected(id *ca.Identity) *Client {
	w.t.Helper()
	bare := &Server{cfg: w.server.cfg, store: w.server.store, meter: w.server.meter, cursors: w.server.cursors, started: w.server.started}
	bare.cfg.Verifier = noVerifier{}
	creds := open{ca.AuthInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, Peer: ca.Peer{ID: id.ID(), Key: id.Public()}}}
	l := bufconn.Listen(1 << 20)
	g := grpc.NewServer(append(ServerOptions(), grpc.Creds(creds))...)
	bare.Register(g)
	var all sync.WaitGroup
	all.Go(func() { _ = g.Serve(l) })
	w.t.Cleanup(func() { g.Stop(); all.Wait() })
	c, err := dial(ClientConfig{Identity: id, World: world.Real(), Address: "memory"}, creds, func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// together has 64 callers make count calls, and returns how long it took, in time and CPU of both ends, and each call.
func together(b *testing.B, count int, call func(i int) error) (elapsed, used time.Duration, laps []time.Duration) {
	b.Helper()
	laps = make([]time.Duration, count)
	var all sync.WaitGroup
	begun, busy := time.Now(), cpu()
	for k := range 64 {
		all.Go(func() {
			for i := k; i < count; i += 64 {
				at := time.Now()
				if err := call(i); err != nil {
					b.Error(err)
					return
				}
				laps[i] = time.Since(at)
			}
		})
	}
	all.Wait()
	elapsed, used = time.Since(begun), cpu()-busy
	slices.Sort(laps)
	return elapsed, used, laps
}

// BenchmarkSecureQuery asks three-term templates with one result over mutual TLS with a real capability, 64 callers on
// one session, both ends in this process. Cached: the session has seen the question and the result before; cached-ten has
// ten results. Uncached: not the question. Unseen: neither, and the client keeps nothing, so that every result travels whole and its owner's
// signature is checked. x-empty-call is CPU against an empty message on a stream of the same kind, security-share the
// part of the CPU that the same questions do not cost over memory, without TLS and capability.
func BenchmarkSecureQuery(b *testing.B) {
	sizes := []int{1000, 10_000}
	for n, scale := 100_000, proveScale(b); n <= 10_000*scale; n *= 10 {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		w := newTown(b)
		w.groups = func(int) []capability.Who { return []capability.Who{capability.Everyone} }
		w.catalogue(b, n)
		id := w.identity(ca.KindUser, "u")
		token, _ := realToken(b, w, id)
		w.server.cfg.Verifier = capability.NewVerifier(w.server.cfg.Identity, nil)
		empty := w.emptyCalls(id)
		for _, kind := range []string{"cached", "cached-ten", "uncached", "unseen"} {
			s := secureQueries{services: n, kind: kind, secure: w.clientWith(id, token), bare: w.unprotected(id), empty: empty}
			if kind == "unseen" {
				s.secure.keep, s.bare.keep = 0, 0
			}
			b.Run(fmt.Sprintf("services=%d/%s", n, kind), s.run)
		}
	}
}

// secureQueries is one line of BenchmarkSecureQuery.
type secureQueries struct {
	services     int
	kind         string
	secure, bare *Client
	empty        func(int) error
	serial       int // makes questions new
}

// ask asks one question and holds the answer against what is there.
func (s *secureQueries) ask(c *Client) func(int) error {
	return func(i int) error {
		k, again := i%20, 0 // of a thousand services, 25 streets
		switch s.kind {
		case "uncached":
			k, again = i%min(s.services, keepMost), i+s.serial
		case "unseen":
			k, again = i%min(s.services, signedMost), i+s.serial
			c.mu.Lock()
			clear(c.verified)
			c.mu.Unlock()
		}
		t, want := fmt.Appendf(nil, `<service kind="kind%d" name="s%d"><!-- %d --><floor>%d</floor></service>`, kindOf(k), k, again, floorOf(k)), 1
		if s.kind == "cached-ten" {
			t, want = fmt.Appendf(nil, `<service kind="kind%d"><floor>%d</floor><building street="st%d"/></service>`, kindOf(k*40), floorOf(k*40), k), 10
		}
		found, err := c.Query(context.Background(), Query{Template: t})
		if err == nil && (len(found) != want || want == 1 && found[0].Name != fmt.Sprint("s", k) || len(found[0].Description) == 0) {
			err = fmt.Errorf("%s found %v", t, names(found))
		}
		return err
	}
}

func (s *secureQueries) run(b *testing.B) {
	for _, call := range []func(int) error{s.ask(s.secure), s.ask(s.bare), s.empty} {
		together(b, max(256, keepMost), call)
	}
	s.serial += 1 << 24
	b.ResetTimer()
	elapsed, used, laps := together(b, b.N, s.ask(s.secure))
	b.StopTimer()
	_, least, _ := together(b, b.N, s.empty)
	s.serial += 1 << 24
	_, open, _ := together(b, b.N, s.ask(s.bare))
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "qps")
	b.ReportMetric(float64(used)/float64(max(1, least)), "x-empty-call")
	b.ReportMetric(1-float64(open)/float64(max(1, used)), "security-share")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-us")
	b.ReportMetric(float64(laps[len(laps)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(laps[len(laps)*99/100].Microseconds()), "p99-us")
}

// BenchmarkLatencyTable prints the paper's Table 1, "Secure Query Latency Breakdown", for this server: one caller, one
// question at a time among 20,000 services. Nothing is remembered: question and result are new, the capability is checked
// from the beginning, the owner's signature too. Each row is a median over rounds that measure every row once.
func BenchmarkLatencyTable(b *testing.B) {
	w := newTown(b)
	w.groups = func(int) []capability.Who { return []capability.Who{capability.Everyone} }
	w.catalogue(b, signedMost)
	id := w.identity(ca.KindUser, "u")
	token, verify := realToken(b, w, id)
	w.server.cfg.Verifier = forgetful{w.server.cfg.Identity}
	c := w.clientWith(id, token)
	c.keep = 0
	ctx := context.Background()
	template := func(i int) []byte {
		k := i % signedMost
		return fmt.Appendf(nil, `<service kind="kind%d" name="s%d"><!-- %d --><floor>%d</floor></service>`, kindOf(k), k, i, floorOf(k))
	}
	block, _ := aes.NewCipher(make([]byte, 16)) // what TLS 1.3 uses here
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	first, err := w.server.Query(callFrom(ctx, id), &sdspb.QueryRequest{Question: &sdspb.Question{Template: template(0)}})
	if err != nil {
		b.Fatal(err)
	}
	nonce, plain, sealed := make([]byte, 12), make([]byte, 4096), make([]byte, 0, 4096)
	seal := func(size int) func(int) error {
		return func(int) error { sealed = gcm.Seal(sealed[:0], nonce, plain[:size], nil); return nil }
	}
	unseal := func(int) (err error) { _, err = gcm.Open(plain[:0], nonce, sealed, nil); return err }
	question, result := len(template(0))+32, proto.Size(first)
	const rounds = 3000 // whatever b.N is: the set-up takes so long that it stays 1
	laps := map[string][]float64{}
	for i := range rounds {
		for _, row := range []struct {
			name string
			f    func(int) error
		}{
			{"query sealed", seal(question)}, {"query opened", unseal}, {"result sealed", seal(result)}, {"result opened", unseal},
			{"empty", func(int) error { return c.Ping(ctx) }}, {"capability", func(int) error { return verify(token) }},
			{"xml", func(i int) error {
				q, err := w.server.compile(id.ID(), &sdspb.Question{Template: template(i)})
				if err == nil {
					_, _, err = w.server.look(ctx, public, q, index.Fuel)
				}
				return err
			}},
			{"total", func(i int) error {
				found, err := c.Query(ctx, Query{Template: template(i + signedMost)})
				if err == nil && len(found) != 1 {
					err = fmt.Errorf("found %v", names(found))
				}
				return err
			}},
		} {
			begun := time.Now()
			if err := row.f(i); err != nil {
				b.Fatal(err)
			}
			laps[row.name] = append(laps[row.name], float64(time.Since(begun).Nanoseconds())/1e6)
		}
	}
	median := func(name string) float64 {
		slices.Sort(laps[name])
		return laps[name][rounds/2]
	}
	transport := median("empty") - 2*(median("query sealed")+median("query opened"))
	rest := median("total") - median("query sealed") - median("query opened") - transport - median("xml") - median("capability") - median("result sealed") - median("result opened")
	for _, row := range []struct {
		what        string
		paper, ours float64
	}{
		{"Query encryption (client)", 5.3, median("query sealed")}, {"Query decryption (server)", 5.2, median("query opened")},
		{"Authenticated transport", 18.3, transport}, {"Query XML processing", 9.8, median("xml")}, {"Capability checking", 18.0, median("capability")},
		{"Query result encryption (server)", 5.6, median("result sealed")}, {"Query result decryption (client)", 5.4, median("result opened")},
		{"Query unaccounted (the publisher's signature)", 14.4, rest}, {"Total (secure XML query)", 82.0, median("total")},
	} {
		b.Logf("PROVE %-46s paper %5.1f ms   ours %9.5f ms", row.what, row.paper, row.ours)
	}
	b.ReportMetric(median("total")*1000, "total-us")
}

// forgetful checks every capability from the beginning.
type forgetful struct{ id *ca.Identity }

func (f forgetful) Verify(token []byte, holder ed25519.PublicKey) (capability.Claims, error) {
	return capability.NewVerifier(f.id, nil).Verify(token, holder)
}

// realToken is a capability of a real manager and its check by someone who has not seen it before.
func realToken(b *testing.B, w *town, id *ca.Identity) ([]byte, func([]byte) error) {
	b.Helper()
	keeper := w.identity(ca.KindCapability, "manager")
	manager, err := capability.NewManager(b.Context(), capability.ManagerConfig{Identity: keeper, Store: noStore{}})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(ca.ServerCredentials(keeper, nil)))
	manager.Register(g)
	var all sync.WaitGroup
	all.Go(func() { _ = g.Serve(l) })
	b.Cleanup(func() { g.Stop(); all.Wait() })
	rights, err := capability.NewClient(capability.ClientConfig{World: world.Real(), Identity: id, Address: l.Addr().String()})
	if err != nil {
		b.Fatal(err)
	}
	defer rights.Close()
	token, err := rights.Capability(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return token, func(token []byte) error {
		_, err := capability.NewVerifier(w.server.cfg.Identity, nil).Verify(token, id.Public())
		return err
	}
}
