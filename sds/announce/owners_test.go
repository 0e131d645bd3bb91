package announce

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
)

// earlier is a server announcement (without its signature) as it was written before owners were ranged.
const earlier = "01010000000000000000000100000000000000020000018bcfe5680000000000000013880d" +
	"0000000000000000000000000000000000000000000000000000000000000000" + "0000000000000000000000000000000000000000000000000000000000000000" +
	"04efff4d021e16040a0000011e171d7370696666653a2f2f6578616d706c652e6f72672f7364732f6d61696e01040a000000080104756e6974" +
	"010d31302e302e302e313a37373032010d31302e302e302e313a37373030010d31302e302e302e313a37373034"

// TestEarlierAnnouncements: a server that knows no ranges is heard by services that do, and the other way round what
// follows is the range alone, which readers that do not know it pass over.
func TestEarlierAnnouncements(t *testing.T) {
	old, err := hex.DecodeString(earlier)
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseAnnouncement(append(old, make([]byte, 64)...))
	if err != nil || s.Extent.Owners != (Owners{}) || s.Extent.Kinds[0] != "unit" || s.Capability[0] != "10.0.0.1:7704" {
		t.Fatalf("%+v, %v", s, err)
	}
	s.Extent.Owners, _ = ParseOwners("0110")
	now := appendAnnouncement(nil, s)
	if got := hex.EncodeToString(now); got != earlier+"0460" {
		t.Errorf("a range makes %s", got)
	}
	again, err := parseAnnouncement(append(now, make([]byte, 64)...))
	if err != nil || again.Extent.Owners.String() != "0110" {
		t.Errorf("%v, %v", again.Extent.Owners, err)
	}
	for _, wrong := range []string{"21", "2100000000", "0160", "04", "0468"} { // too many digits, digits beyond, cut off
		end, _ := hex.DecodeString(wrong)
		if s, err := parseAnnouncement(append(append(now[:len(now)-2:len(now)-2], end...), make([]byte, 64)...)); err == nil {
			t.Errorf("%s is read as %v", wrong, s.Extent.Owners)
		}
	}
}

func TestOwnersHalves(t *testing.T) {
	for _, bad := range []string{"2", "0 1", "000000000000000000000000000000001"} {
		if o, err := ParseOwners(bad); err == nil {
			t.Errorf("%q is read as %v", bad, o)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		o, hash := Owners{}, r.Uint32()
		for range r.IntN(40) {
			lower, upper := o.Half(false), o.Half(true)
			if o.Bits() == ownersMost {
				if lower != o || upper != o {
					t.Fatalf("%v has halves", o)
				}
				break
			}
			if lower.Covers(hash) == upper.Covers(hash) && o.Covers(hash) || lower.Covers(hash) && !o.Covers(hash) {
				t.Fatalf("%032b in %v, %v and %v", hash, o, lower, upper)
			}
			if o = lower; r.IntN(2) == 0 {
				o = upper
			}
		}
		if again, err := ParseOwners(o.String()); err != nil || again != o {
			t.Fatalf("%v is read as %v, %v", o, again, err)
		}
	}
}

// TestSpecific: what counts more outweighs all that counts less.
func TestSpecific(t *testing.T) {
	at, owner := netip.MustParseAddr("10.1.2.3"), ca.ID("spiffe://test/unit/u")
	digits := fmt.Sprintf("%032b", OwnerHash(owner))
	nets := func(text ...string) (out []netip.Prefix) {
		for _, s := range text {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	owners := func(bits int) Owners { o, _ := ParseOwners(digits[:bits]); return o }
	many := []string{"unit", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"}
	ascending := []Extent{
		{},
		{Kinds: many},
		{Kinds: []string{"base", "unit"}},
		{Kinds: []string{"unit"}},
		{Owners: owners(1)},
		{Owners: owners(1), Kinds: []string{"unit"}},
		{Owners: owners(32), Kinds: []string{"unit"}},
		{Networks: nets("0.0.0.0/0", "192.168.0.0/16")},
		{Networks: nets("10.0.0.0/8")},
		{Networks: nets("10.0.0.0/8", "10.1.0.0/16")},
		{Networks: nets("10.1.0.0/16"), Owners: owners(3)},
		{Networks: nets("10.1.2.3/32")},
	}
	last := -1
	for _, e := range ascending {
		specific, ok := e.Covers(at, owner)
		if !ok || specific <= last {
			t.Errorf("%+v is %d, %v; the one before is %d", e, specific, ok, last)
		}
		last = specific
	}
	other := Owners{}.Half(digits[0] == '0')
	for _, e := range []Extent{{Networks: nets("10.2.0.0/16")}, {Kinds: []string{"base"}}, {Owners: other}, {Networks: nets("10.0.0.0/8"), Owners: other}} {
		if specific, ok := e.Covers(at, owner); ok {
			t.Errorf("%+v covers what it does not, by %d", e, specific)
		}
	}
}

// TestServicesFollowTheirRange: of two servers alike but for the range, each owner follows the one whose range it is in
// while that lives.
func TestServicesFollowTheirRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := newWire()
		w := net.world()
		domain := authority(t, w)
		main := startServer(t, w, identity(t, domain, ca.KindSDS, "main"), nil)
		defer main.stop()
		upper := startServer(t, w, identity(t, domain, ca.KindSDS, "main-1"), func(c *ServerAnnouncerConfig) {
			c.Extent.Owners = Owners{}.Half(true)
			c.UDP = netip.MustParseAddrPort("127.0.0.1:7713")
		})
		const owners = 16
		high := 0
		for i := range owners {
			owner := identity(t, domain, ca.KindUnit, fmt.Sprint("u", i))
			if OwnerHash(owner.ID())>>31 == 1 {
				high++
			}
			a, stop := startAnnouncer(t, w, owner, nil)
			defer stop()
			publish(t, a, "s", document)
		}
		time.Sleep(12 * testPeriod)
		if m, u := main.live(), upper.live(); u != high || m != owners-high || high == 0 || high == owners {
			t.Errorf("%d follow the range of %d, and %d the other server", u, high, m)
		}
		upper.stop()
		time.Sleep(12 * testPeriod)
		if m := main.live(); m != owners {
			t.Errorf("after it is gone %d of %d follow the other server", m, owners)
		}
	})
}
