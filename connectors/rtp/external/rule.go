package external

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ninja/operators"
)

// Rule is a line of a node's allow-list: which addresses may be spoken with, and how they answer a challenge beside STUN
// at the address itself, which any may.
type Rule struct {
	// Network and the ports (both ends included) are what is allowed.
	Network    netip.Prefix
	First, End uint16
	// RTCP has the address answer by a receiver report, for programs that report without having a word in it. They report
	// only what they have heard of: they are knocked at with RTP packets without payload (RFC 6263, 4.1).
	RTCP bool
	// CNAME has the address answer by an RTCP packet whose canonical name is this; "*" is a fresh one of each session
	// (Session.Token), which whoever starts the program gives to it.
	CNAME string
	// Port, when not 0, is where a small helper on the same host answers for a program that cannot, with the Key
	// (package stun's short-term credential, RFC 8489, 9.1). Answer is such a helper. The address itself is then not
	// sent any challenge.
	Port uint16
	Key  string
}

// ParseRule reads ADDRESS:PORT or what operators.ParseExternal reads (NETWORK/BITS:FIRST-LAST), and words after it: rtcp, cname, cname=TOKEN,
// consent=PORT with key=SECRET. Secrets are not repeated in errors.
func ParseRule(s string) (Rule, error) {
	fields := strings.Fields(s)
	if len(fields) == 0 || len(s) > 512 {
		return Rule{}, fmt.Errorf("a rule of the allow-list: want ADDRESS:PORT or NETWORK/BITS:FIRST-LAST")
	}
	r, err := parsePlace(fields[0])
	if err != nil {
		return Rule{}, fmt.Errorf("rule %.60q: %w", fields[0], err)
	}
	for _, word := range fields[1:] {
		name, value, has := strings.Cut(word, "=")
		switch {
		case name == "rtcp" && !has:
			r.RTCP = true
		case name == "cname" && !has:
			r.CNAME = "*"
		case name == "cname" && len(value) >= 8:
			r.CNAME = value
		case name == "consent":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil || n == 0 {
				return Rule{}, fmt.Errorf("rule %.60q: consent=PORT wants a port", fields[0])
			}
			r.Port = uint16(n)
		case name == "key" && len(value) >= 16:
			r.Key = value
		default:
			return Rule{}, fmt.Errorf("rule %.60q: %.20q is none of rtcp, cname, cname=TOKEN (of 8 characters or more), "+
				"consent=PORT, key=SECRET (of 16 or more)", fields[0], name)
		}
	}
	if (r.Port == 0) != (r.Key == "") {
		return Rule{}, fmt.Errorf("rule %.60q: consent=PORT and key=SECRET go together", fields[0])
	}
	return r, nil
}

// parsePlace reads what operators.ParseExternal reads, and a single address without its bits.
func parsePlace(s string) (Rule, error) {
	text := s
	if at, err := netip.ParseAddrPort(s); err == nil {
		text = fmt.Sprintf("[%s/%d]:%d", at.Addr(), at.Addr().BitLen(), at.Port())
	}
	e, err := operators.ParseExternal(text)
	if err != nil {
		return Rule{}, err
	}
	return Rule{Network: e.Network, First: e.First, End: e.Last}, nil
}

// Allows reports whether the rule names the address.
func (r Rule) Allows(at netip.AddrPort) bool {
	a := at.Addr()
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && r.Network.Contains(a) && at.Port() >= r.First && at.Port() <= r.End
}

// String is the rule without its secrets.
func (r Rule) String() string {
	return fmt.Sprintf("%s:%d-%d", r.Network, r.First, r.End)
}
