package operators

import (
	"net/netip"
	"strings"
	"testing"
)

func TestExternal(t *testing.T) {
	for _, tc := range []struct{ text, again, holds, not string }{
		{"10.0.0.0/8:5004-5100", "10.0.0.0/8:5004-5100", "10.1.2.3:5004 10.1.2.3:5100", "10.1.2.3:5101 11.0.0.1:5004 10.1.2.3:5003"},
		{"192.0.2.7/32", "192.0.2.7/32", "192.0.2.7:1024 192.0.2.7:65535", "192.0.2.7:53 192.0.2.8:5004"},
		{"192.0.2.7/32:9-9", "192.0.2.7/32:9", "192.0.2.7:9", "192.0.2.7:10 [::ffff:192.0.2.7]:9"},
		{"[2001:db8::/32]:5004", "[2001:db8::/32]:5004", "[2001:db8::1]:5004", "[2001:db9::1]:5004 [2001:db8::1]:5005"},
		{"192.0.2.7:9", "192.0.2.7/32:9", "192.0.2.7:9", "192.0.2.8:9"},
		{"[2001:db8::7]:9", "[2001:db8::7/128]:9", "[2001:db8::7]:9", "[2001:db8::8]:9"},
		{"2001:db8::/32", "[2001:db8::/32]", "[2001:db8::1]:5004", "10.0.0.1:5004"},
	} {
		e, err := ParseExternal(tc.text)
		if err != nil || e.String() != tc.again {
			t.Errorf("%s: %v, %v", tc.text, e, err)
		}
		n := Node{External: "nonsense " + tc.text}
		for _, a := range strings.Fields(tc.holds) {
			if !n.Reaches(netip.MustParseAddrPort(a)) {
				t.Errorf("%s does not reach %s", tc.text, a)
			}
		}
		for _, a := range strings.Fields(tc.not) {
			if n.Reaches(netip.MustParseAddrPort(a)) {
				t.Errorf("%s reaches %s", tc.text, a)
			}
		}
	}
	for _, bad := range []string{"", "10.0.0", "10.0.0.1/8", "10.0.0.0/8:", "10.0.0.0/8:0", "10.0.0.0/8:9-5", "10.0.0.0/8:99999", "[::/0", "[::/0]5", "::ffff:10.0.0.0/104"} {
		if e, err := ParseExternal(bad); err == nil {
			t.Errorf("%q is %v", bad, e)
		}
	}
}

func FuzzExternal(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8:5004-5100", "192.0.2.7/32", "[2001:db8::/32]:5004", "2001:db8::/32", "[::/0]:", "1.2.3.4/5:6-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseExternal(s)
		if err != nil {
			return
		}
		again, err := ParseExternal(e.String())
		if err != nil || again != e {
			t.Errorf("%q is %v, and again %v: %v", s, e, again, err)
		}
	})
}
