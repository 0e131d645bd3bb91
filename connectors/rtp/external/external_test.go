package external

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	pionrtp "github.com/pion/rtp"
	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	pcmu = "audio/PCMU;channels=1;rate=8000"
	ms   = time.Millisecond
)

func newEdge(t testing.TB, rules ...string) *Edge {
	t.Helper()
	cfg := Config{World: world.Real(), Local: netip.MustParseAddr("127.0.0.1")}
	for _, s := range rules {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Allow = append(cfg.Allow, r)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func open(t testing.TB, e *Edge, c Call) *Session {
	t.Helper()
	if c.Type.IsZero() {
		c.Type = connectors.MustType(pcmu)
	}
	s, err := e.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// program is a socket of a program that is not ours.
type program struct {
	net.PacketConn
	at netip.AddrPort
}

func newProgram(t testing.TB) program {
	t.Helper()
	for {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if at := addrOf(c.LocalAddr()); at.Port()%2 == 0 {
			t.Cleanup(func() { c.Close() })
			return program{c, at}
		}
		c.Close()
	}
}

// next is the next datagram that comes within d, nil when none does.
func (p program) next(d time.Duration) ([]byte, net.Addr) {
	b := make([]byte, 2000)
	p.SetReadDeadline(time.Now().Add(d))
	n, from, err := p.ReadFrom(b)
	if err != nil {
		return nil, nil
	}
	return b[:n], from
}

// isMedia tells RTP with a payload from challenges.
func isMedia(b []byte) bool {
	var h pionrtp.Header
	n, err := h.Unmarshal(b)
	return err == nil && !isSTUN(b) && (b[1] < 192 || b[1] > 223) && n < len(b)
}

// An address outside the allow-list is refused before anything is sent; one inside is sent challenges and no media until
// it answers, and then media.
func TestConsentComesFirst(t *testing.T) {
	p := newProgram(t)
	stranger := newEdge(t, "127.0.0.1/32:4-5")
	if _, err := stranger.Open(t.Context(), Call{Remote: "rtp://" + p.at.String(), Type: connectors.MustType(pcmu)}); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("not allowed: %v", err)
	}
	if b, _ := p.next(50 * ms); b != nil {
		t.Errorf("%d bytes were sent to an address that is not allowed", len(b))
	}
	s := open(t, newEdge(t, p.at.String()), Call{Remote: "rtp://" + p.at.String()})
	written := make(chan error, 1)
	go func() {
		written <- s.Writer().Write(t.Context(), connectors.ADU{Payload: bytes.Repeat([]byte{7}, 160)})
	}()
	b, from := p.next(5 * time.Second)
	m, err := parseSTUN(b)
	if err != nil || m.kind != stunRequest {
		t.Fatalf("the first datagram is %x", b)
	}
	select {
	case err := <-written:
		t.Fatal("written before the answer:", err)
	case <-time.After(50 * ms):
	}
	wrong := m.id
	wrong[3] ^= 1
	p.WriteTo(appendSTUN(nil, stunSuccess, wrong, "", ""), from)
	p.WriteTo(appendSTUN(nil, stunRequest, m.id, "", ""), from)
	if b, _ := p.next(50 * ms); isMedia(b) {
		t.Error("media after a wrong answer")
	}
	p.WriteTo(appendSTUN(nil, stunSuccess, m.id, "", ""), from)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if b, _ := p.next(time.Second); !isMedia(b) {
		t.Errorf("after consent came %x", b)
	}
}

// Each way to answer counts from where it must come, and from nowhere else; consent ends when it is not renewed.
func TestWaysToConsent(t *testing.T) {
	remote := netip.MustParseAddrPort("192.0.2.7:5004")
	helper := netip.MustParseAddrPort("192.0.2.7:3478")
	elsewhere := netip.MustParseAddrPort("192.0.2.8:5004")
	next := netip.MustParseAddrPort("192.0.2.7:5005")
	now := time.Unix(1_700_000_000, 0)
	const key = "a key of the host's owner"
	rule := func(s string) Rule {
		r, err := ParseRule("192.0.2.7:5004 " + s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const ssrc = 77
	report := func(ch challenge) []rtcp.Packet {
		return []rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: ssrc, LastSenderReport: ch.lsr}}}}
	}
	named := func(name string) []rtcp.Packet { return []rtcp.Packet{rtcp.NewCNAMESourceDescription(5, name)} }
	for _, tc := range []struct {
		name string
		rule Rule
		give func(c *consent, ch challenge) bool
		want bool
	}{
		{"stun", rule(""), func(c *consent, ch challenge) bool {
			return c.stun(stunMessage{kind: stunSuccess, id: ch.id}, remote, now)
		}, true},
		{"stun from elsewhere", rule(""), func(c *consent, ch challenge) bool {
			return c.stun(stunMessage{kind: stunSuccess, id: ch.id}, elsewhere, now)
		}, false},
		{"stun from another port", rule(""), func(c *consent, ch challenge) bool {
			return c.stun(stunMessage{kind: stunSuccess, id: ch.id}, next, now)
		}, false},
		{"stun, though the helper is to answer", rule("consent=3478 key=" + strings.ReplaceAll(key, " ", "_")), func(c *consent, ch challenge) bool {
			return c.stun(stunMessage{kind: stunSuccess, id: ch.id}, remote, now)
		}, false},
		{"the helper without its key", rule("consent=3478 key=" + strings.ReplaceAll(key, " ", "_")), func(c *consent, ch challenge) bool {
			m, _ := parseSTUN(appendSTUN(nil, stunSuccess, ch.id, remote.String(), "another_key_of_somebody"))
			return c.stun(m, helper, now)
		}, false},
		{"the helper for another port", rule("consent=3478 key=" + strings.ReplaceAll(key, " ", "_")), func(c *consent, ch challenge) bool {
			m, _ := parseSTUN(appendSTUN(nil, stunSuccess, ch.id, next.String(), strings.ReplaceAll(key, " ", "_")))
			return c.stun(m, helper, now)
		}, false},
		{"the helper", rule("consent=3478 key=" + strings.ReplaceAll(key, " ", "_")), func(c *consent, ch challenge) bool {
			m, _ := parseSTUN(appendSTUN(nil, stunSuccess, ch.id, remote.String(), strings.ReplaceAll(key, " ", "_")))
			return c.stun(m, helper, now)
		}, true},
		{"a report", rule("rtcp"), func(c *consent, ch challenge) bool { return c.rtcp(report(ch), next, now) }, true},
		{"a report without a rule for it", rule(""), func(c *consent, ch challenge) bool { return c.rtcp(report(ch), next, now) }, false},
		{"a report from elsewhere", rule("rtcp"), func(c *consent, ch challenge) bool { return c.rtcp(report(ch), elsewhere, now) }, false},
		{"a report of no time", rule("rtcp"), func(c *consent, _ challenge) bool { return c.rtcp(report(challenge{}), next, now) }, false},
		{"a report twice", rule("rtcp"), func(c *consent, ch challenge) bool {
			return c.rtcp(report(ch), next, now.Add(-2*consentLife)) && c.rtcp(report(ch), next, now)
		}, false},
		{"a name", rule("cname=lobby-speaker"), func(c *consent, _ challenge) bool { return c.rtcp(named("lobby-speaker"), remote, now) }, true},
		{"a fresh name", rule("cname"), func(c *consent, _ challenge) bool { return c.rtcp(named(c.token), remote, now) }, true},
		{"another name", rule("cname=lobby-speaker"), func(c *consent, _ challenge) bool { return c.rtcp(named("lobby-speakers"), remote, now) }, false},
		{"no name", rule(""), func(c *consent, _ challenge) bool { return c.rtcp(named(""), remote, now) }, false},
	} {
		c := newConsent(tc.rule, remote, ssrc, bytes.Repeat([]byte{9}, 16))
		ch := c.ask(now, [16]byte{1, 2, 3, 14: 4, 15: 5})
		if c.given(now) {
			t.Errorf("%s: given before the answer", tc.name)
		}
		if got := tc.give(&c, ch); got != tc.want || c.given(now) != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if c.given(now.Add(consentLife)) {
			t.Errorf("%s: consent holds for ever", tc.name)
		}
	}
}

// attempts is how many strangers try.
func attempts() int {
	if os.Getenv("NINJA_PROVE") == "1" {
		return 10_000
	}
	return 300
}

// A path is no cannon: of ten thousand attempts to send to hosts that have not consented, by every kind of address and
// with every kind of forged answer, no packet of media comes of any.
func TestNoCannon(t *testing.T) {
	victim := newProgram(t)
	var got, media atomic.Int64
	stop := make(chan struct{})
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			b, _ := victim.next(20 * ms)
			if b != nil {
				got.Add(1)
				if isMedia(b) {
					media.Add(1)
				}
				continue
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	e := newEdge(t, victim.at.String()+" rtcp")
	forger := newProgram(t)
	v := victim.at.String()
	port := v[strings.LastIndex(v, ":"):]
	refused := 0
	for n := range attempts() {
		remote := []string{v, "127.1" + port, "localhost" + port, "[::ffff:127.0.0.1]" + port, "2130706433" + port, "127.0.0.2" + port, v}[n%7]
		s, err := e.Open(t.Context(), Call{Remote: "rtp://" + remote, Type: connectors.MustType(pcmu)})
		if err != nil {
			refused++
			continue
		}
		to := net.UDPAddrFromAddrPort(s.Addr())
		var id txid
		id[n%12] = byte(n)
		forged, _ := rtcp.Marshal([]rtcp.Packet{
			&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: uint32(n), LastSenderReport: uint32(n)}}},
			rtcp.NewCNAMESourceDescription(1, "ninja"),
		})
		forger.WriteTo(appendSTUN(nil, stunSuccess, id, "", ""), to)
		forger.WriteTo(forged, to)
		ctx, cancel := context.WithTimeout(t.Context(), 2*ms)
		if err := s.Writer().Write(ctx, connectors.ADU{Payload: make([]byte, 160)}); err == nil {
			t.Fatal("written without consent")
		}
		cancel()
		s.Close()
	}
	close(stop)
	<-heard
	if media.Load() != 0 {
		t.Errorf("%d packets of media", media.Load())
	}
	if refused < attempts()/7*5 {
		t.Errorf("%d were refused", refused)
	}
	t.Logf("PROVE %d attempts without consent: %d packets of media, %d datagrams of challenges in all", attempts(), media.Load(), got.Load())
}

// Two sessions of ours speak SRTP with each other, each other's program; keys, order and the goodbye come through.
func TestSRTPBothWays(t *testing.T) {
	key := func(b byte) string {
		return "AES_CM_128_HMAC_SHA1_80 inline:" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 30))
	}
	e, f := newEdge(t, "127.0.0.1/32:1024-65535 consent=1 key=not-answered-here-at-all"), newEdge(t, "127.0.0.1/32:1024-65535")
	there := open(t, f, Call{Local: 0, Out: key(2), In: key(1)})
	helper, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.cfg.Allow[0].Port = addrOf(helper.LocalAddr()).Port()
	ctx, stop := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- Answer(ctx, helper, e.cfg.Allow[0].Key, there.Addr().Port()) }()
	defer func() {
		stop()
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}()
	here := open(t, e, Call{Remote: "srtp://" + there.Addr().String(), Out: key(1), In: key(2)})
	go func() {
		for n := range 30 {
			here.Writer().Write(ctx, connectors.ADU{Payload: bytes.Repeat([]byte{byte(n)}, 160), MediaTime: time.Duration(n) * 20 * ms})
		}
		here.Writer().Close()
	}()
	total := 0
	for {
		a, err := there.Reader().Read(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		total += len(a.Payload)
	}
	if total != 160*30 {
		t.Errorf("%d bytes came", total)
	}
	if !strings.Contains(there.SDP(there.Addr()), "RTP/SAVP 0\r\n") || !strings.Contains(there.SDP(there.Addr()), key(1)) {
		t.Error(there.SDP(there.Addr()))
	}
	for _, bad := range [][2]string{{key(1), key(1)}, {key(1), ""}, {"AES inline:x", key(2)}, {key(1) + "|2^20", key(2)}} {
		if _, err := e.Open(ctx, Call{Remote: "srtp://127.0.0.1:40000", Type: connectors.MustType(pcmu), Out: bad[0], In: bad[1]}); err == nil || strings.Contains(err.Error(), "AQEB") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestRules(t *testing.T) {
	for s, want := range map[string]map[string]bool{
		"192.0.2.7:5004":              {"192.0.2.7:5004": true, "192.0.2.7:5005": false, "192.0.2.8:5004": false},
		"192.0.2.0/24:5004-5010 rtcp": {"192.0.2.200:5010": true, "192.0.3.1:5004": false, "[::ffff:192.0.2.7]:5004": false},
		"[fd00::1]:5004":              {"[fd00::1]:5004": true, "[fd00::2]:5004": false},
	} {
		r, err := ParseRule(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		for at, ok := range want {
			if r.Allows(netip.MustParseAddrPort(at)) != ok {
				t.Errorf("%s: %s is not %v", s, at, ok)
			}
		}
	}
	for _, s := range []string{"", "x", "192.0.2.7:0", "192.0.2.7:9-8", "192.0.2.7/24:5004", "192.0.2.7:5004 cname=x", "192.0.2.7:5004 consent=1",
		"192.0.2.7:5004 key=0123456789abcdef", "192.0.2.7:5004 rtcp=yes", "host:5004"} {
		if r, err := ParseRule(s); err == nil || strings.Contains(err.Error(), "0123456789abcdef") {
			t.Errorf("%q: %v %v", s, r, err)
		}
	}
}

func FuzzSTUN(f *testing.F) {
	f.Add(appendSTUN(nil, stunSuccess, txid{1}, "192.0.2.7:5004", "key"))
	f.Add(appendSTUN(nil, stunRequest, txid{2}, "", ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseSTUN(b)
		if err == nil && m.keyed("a key that nobody has guessed") {
			t.Error("forged")
		}
	})
}

// Whatever comes, nothing is read beyond its end, and a source keeps its order.
func FuzzRTP(f *testing.F) {
	p, err := (&pionrtp.Packet{Header: pionrtp.Header{Version: 2, SequenceNumber: 3, SSRC: 9}, Payload: []byte("hello")}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p, p)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var s source
		from := netip.MustParseAddrPort("192.0.2.7:5004")
		var last uint64
		for _, packet := range [][]byte{a, b, a, b} {
			var h pionrtp.Header
			payload, ok := parseRTP(packet, &h)
			if !ok {
				continue
			}
			if len(payload) > len(packet) {
				t.Error("a payload beyond its packet")
			}
			if at, _, counts := s.place(&h, from, time.Unix(0, 0), time.Second); counts && at > last+maxStep {
				t.Errorf("position %d after %d", at, last)
			} else if counts {
				last = max(last, at)
			}
		}
	})
}

func FuzzRule(f *testing.F) {
	f.Add("192.0.2.0/24:5004-5010 rtcp cname=12345678 consent=3478 key=0123456789abcdef")
	f.Add("[fd00::1]:5004")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRule(s); err == nil && (r.First == 0 || r.First > r.End || !r.Network.IsValid()) {
			t.Errorf("%q reads as %+v", s, r)
		}
		if at, _, err := ParseRemote(s); err == nil && (at.Addr().IsMulticast() || at.Port() == 0) {
			t.Errorf("%q reads as %v", s, at)
		}
	})
}

// What is refused of an a=crypto line is not repeated.
func FuzzCrypto(f *testing.F) {
	f.Add("AES_CM_128_HMAC_SHA1_80 inline:" + base64.StdEncoding.EncodeToString(make([]byte, 30)))
	f.Add("AEAD_AES_256_GCM inline:" + base64.StdEncoding.EncodeToString(make([]byte, 44)))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCrypto(s)
		if (c == nil) == (err == nil) || err != nil && len(s) > 60 && strings.Contains(err.Error(), s) {
			t.Errorf("%q: %v %v", s, c, err)
		}
	})
}
