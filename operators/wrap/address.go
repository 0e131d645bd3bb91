package wrap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"ninja/internal/world"
)

// policy says which addresses wrapped services may have. It is pure but for the resolver.
type policy struct {
	allow   []netip.Prefix
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

func newPolicy(cfg Config) *policy {
	p := &policy{allow: slices.Clone(cfg.Allow), resolve: cfg.Resolve}
	if p.resolve == nil {
		p.resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return p
}

// ErrAddress is wrapped by the error of a dial to an address that wrapped services may not have.
var ErrAddress = errors.New("wrapped services may not be at that address")

// dial resolves the host, checks every address that it has, and dials one of those checked: what is looked up again
// could be another. One bad address among good ones refuses them all: a name that has both is a trap.
func (p *policy) dial(ctx context.Context, w world.World, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %.100q: %w", address, err)
	}
	addrs, err := p.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("dial %.100q: %w", address, err)
	}
	if len(addrs) == 0 || len(addrs) > maxAddresses {
		return nil, fmt.Errorf("dial %.100q: it has %d addresses; 1 to %d are wanted", address, len(addrs), maxAddresses)
	}
	for i, a := range addrs {
		if !p.allowed(a) {
			return nil, fmt.Errorf("dial %.100q: %w: %v", address, ErrAddress, a)
		}
		addrs[i] = a.Unmap()
	}
	for _, a := range addrs {
		var c net.Conn
		if c, err = w.Net.Dial(ctx, "tcp", net.JoinHostPort(a.String(), port)); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("dial %.100q: %w", address, err)
}

// maxAddresses bounds what a resolver may answer.
const maxAddresses = 32

func (p *policy) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return p.resolve(ctx, host)
}

// allowed reports whether a service may have the address.
func (p *policy) allowed(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	return slices.ContainsFunc(p.allow, func(x netip.Prefix) bool { return x.Contains(a) }) || public(a)
}

// public reports whether the address is one of the internet at large: global unicast, and none of the registries of
// special purposes (RFC 6890 and its successors), nor of those that hide an IPv4 address in an IPv6 one.
func public(a netip.Addr) bool {
	if slices.ContainsFunc(special(), func(x netip.Prefix) bool { return x.Contains(a) }) {
		return false
	}
	if a.Is4() {
		return true
	}
	b := a.As16()
	isatap := b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe // RFC 5214
	return globalUnicast().Contains(a) && !isatap
}

func globalUnicast() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

// special are the prefixes that are not public; of IPv6, those within 2000::/3.
func special() []netip.Prefix {
	return []netip.Prefix{
		v4(0, 0, 8), v4(10, 0, 8), v4(100, 64, 10), v4(127, 0, 8), v4(169, 254, 16), v4(172, 16, 12), v4(192, 168, 16), v4(198, 18, 15),
		v4(224, 0, 4), v4(240, 0, 4),
		netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"),
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("2001::/23"), // Teredo and other protocols' own
		netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"),
		netip.MustParsePrefix("2002::/16"), // 6to4
		netip.MustParsePrefix("3ffe::/16"),
	}
}

func v4(a, b byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b}), bits)
}
