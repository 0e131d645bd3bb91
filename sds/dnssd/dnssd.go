// Package dnssd is the door between the SDS and DNS-SD over multicast DNS (RFC 6762, RFC 6763), by which printers, cameras and
// desktops announce themselves on a link. An Importer makes descriptions of what it hears; an Exporter shows chosen services
// to whoever browses, as avahi-browse does. Both work on one interface and IPv4.
//
// Multicast DNS proves nothing: what is imported says so (origin="mdns"), under the door's own identity. Nothing is ever
// answered by unicast, and what is answered is answered at most once a second, so that neither a forged sender's address
// nor a flood of questions makes the door a cannon. The two do not import each other's services: what is exported carries a
// text "ninja=" that importers pass over.
package dnssd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/ipv4"

	"ninja/internal/world"
)

// group is where multicast DNS is spoken (RFC 6762, 3).
var group = netip.AddrPortFrom(netip.AddrFrom4([4]byte{224, 0, 0, 251}), port)

const (
	port  = 5353
	local = name("local.")
	// mark begins the text of exported services.
	mark = "ninja="
)

// CheckType says whether text is a service type, as in "_ipp._tcp" (RFC 6763, 7).
func CheckType(text string) error {
	service, transport, ok := strings.Cut(text, ".")
	if !ok || transport != "_tcp" && transport != "_udp" || len(service) < 2 || len(service) > 16 || service[0] != '_' ||
		strings.Trim(service[1:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
		return fmt.Errorf("service type %.80q: want _NAME._tcp or _NAME._udp, as in _ipp._tcp", text)
	}
	return nil
}

// socket is a joined socket and what it hears.
type socket struct {
	conn  net.PacketConn
	heard chan message
	ended chan struct{} // closed when it hears no more
}

// listen joins the group on the interface with an address.
func listen(ctx context.Context, w world.World, via netip.Addr) (*socket, error) {
	conn, err := w.Net.ListenMulticast(ctx, group, via)
	if err != nil {
		return nil, fmt.Errorf("multicast DNS: %w", err)
	}
	if _, real := conn.(*net.UDPConn); real {
		if err := ipv4.NewPacketConn(conn).SetMulticastTTL(255); err != nil { // RFC 6762, 11
			conn.Close()
			return nil, fmt.Errorf("multicast DNS: %w", err)
		}
	}
	s := &socket{conn: conn, heard: make(chan message, 64), ended: make(chan struct{})}
	go s.read()
	return s, nil
}

// read hands over what it hears until the socket is closed. What comes too fast is dropped: it is said again.
func (s *socket) read() {
	defer close(s.ended)
	buffer := make([]byte, maxMessage+1)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		// Other ports are one-shot questions, which want unicast answers (RFC 6762, 6.7), and forged answers.
		if a, ok := from.(*net.UDPAddr); !ok || a.Port != port {
			continue
		}
		m, err := parse(buffer[:n])
		if err != nil {
			continue
		}
		select {
		case s.heard <- m:
		default:
		}
	}
}

func (s *socket) close() {
	s.conn.Close()
	<-s.ended
}

// send multicasts messages.
func (s *socket) send(log *slog.Logger, messages [][]byte) {
	for _, b := range messages {
		if _, err := s.conn.WriteTo(b, net.UDPAddrFromAddrPort(group)); err != nil {
			log.Debug("multicast DNS message not sent", "error", err)
		}
	}
}
