package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"ninja/connectors"
	"ninja/connectors/rtp/external"
	"ninja/internal/world"
	"ninja/operators"
)

// Threats, row 15: whatever creator asks, a proxy opens nothing for an address that its own allow-list does not hold. The full
// count is 10^4 (NINJA_PROVE_SCALE=100).
func TestNoAddressPastTheAllowList(t *testing.T) {
	scale, _ := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	r := rand.New(rand.NewPCG(5, 5))
	rule, err := external.ParseRule("192.0.2.0/25:5004-5010")
	if err != nil {
		t.Fatal(err)
	}
	w := world.Real()
	sockets := &counted{Network: w.Net}
	w.Net = sockets
	edge, err := external.New(external.Config{World: w, Local: netip.MustParseAddr("127.0.0.1"), Allow: []external.Rule{rule}})
	if err != nil {
		t.Fatal(err)
	}
	var registry operators.Registry
	external.Register(&registry, edge)
	made, refused := 0, 0
	for range 100 * max(1, scale) {
		var b [4]byte
		copy(b[:], []byte{192, 0, 2, byte(r.Uint32())})
		if r.IntN(2) == 0 {
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		}
		at := netip.AddrPortFrom(netip.AddrFrom4(b), uint16(5000+r.IntN(16)))
		text := at.String()
		switch r.IntN(8) { // forms that mean the same, or something else
		case 0:
			text = netip.AddrPortFrom(netip.AddrFrom16(at.Addr().As16()), at.Port()).String()
		case 1:
			text = strings.Replace(text, ".", ".0", 1)
		case 2:
			text = strconv.Itoa(int(r.Uint32())) + ":5004"
		}
		env := operators.Env{World: w, Log: slog.New(slog.DiscardHandler), Path: "p", Args: map[string]string{operators.ExternalAddress: text}}
		env.In = connectors.MustType("audio/PCMU;channels=1;rate=8000")
		_, err := registry.Make(t.Context(), operators.ExternalOut, env)
		parsed, perr := netip.ParseAddrPort(text)
		if want := perr == nil && rule.Allows(parsed); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil {
			made++
		} else {
			refused++
		}
	}
	if t.Logf("PROVE %d addresses refused, %d allowed; %d sockets opened", refused, made, sockets.n); sockets.n != 0 || made == 0 || refused == 0 {
		t.Error("something was opened, or the test tests nothing")
	}
}

// counted counts the sockets that are opened.
type counted struct {
	world.Network
	n int
}

func (c *counted) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	c.n++
	return c.Network.ListenPacket(ctx, network, address)
}

// What is published of an allow-list tells where, and no secret.
func TestWhatIsPublishedOfAnAllowList(t *testing.T) {
	role := proxyRole{External: []string{"10.0.0.0/8:5004-5100 rtcp", "192.0.2.7:9 consent=3478 key=sixteen-letters-of-it", "[2001:db8::7]:5004 cname"}}
	text, err := role.outside()
	if err != nil || text != "10.0.0.0/8:5004-5100 192.0.2.7/32:9 [2001:db8::7/128]:5004" {
		t.Errorf("%q, %v", text, err)
	}
	n := operators.Node{External: text}
	for _, a := range []string{"10.9.9.9:5004", "192.0.2.7:9", "[2001:db8::7]:5004"} {
		if !n.Reaches(netip.MustParseAddrPort(a)) {
			t.Errorf("it is not read to reach %s", a)
		}
	}
}
