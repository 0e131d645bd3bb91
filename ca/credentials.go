package ca

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// ServerCredentials make a gRPC server prove id and demand a certificate of every client. Accept decides who may
// connect; nil is anyone of the own domain. What each caller may do is decided per message, by PeerFromContext.
//
// A connection ends when the first of the two certificates that opened it expires, and when the other end is banned:
// grpc clients then connect anew by themselves, with renewed certificates, and a stream ends with codes.Unavailable.
func ServerCredentials(id *Identity, accept func(Peer) error) credentials.TransportCredentials {
	return &transport{id: id, accept: accept}
}

// ClientCredentials make a gRPC client prove id. Accept decides who the server may be; use Is or KindIs.
func ClientCredentials(id *Identity, accept func(Peer) error) credentials.TransportCredentials {
	return &transport{id: id, accept: accept}
}

// PeerFromContext says who made the call that ctx belongs to (in a server) or who answers it (in a client's
// grpc.Peer). The chain was verified once, at the handshake; this is a map look-up.
func PeerFromContext(ctx context.Context) (Peer, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, fmt.Errorf("%w: no connection in the context", ErrUntrusted)
	}
	info, ok := p.AuthInfo.(AuthInfo)
	if !ok {
		return Peer{}, fmt.Errorf("%w: the connection does not use ca's credentials", ErrUntrusted)
	}
	if info.Peer.ID == "" {
		return Peer{}, fmt.Errorf("%w: the caller shows no certificate", ErrUntrusted)
	}
	return info.Peer, nil
}

// AuthInfo is what a handshake found out; gRPC keeps it with the connection.
type AuthInfo struct {
	credentials.CommonAuthInfo
	// Peer is the verified other end.
	Peer Peer
}

// AuthType names the mechanism.
func (AuthInfo) AuthType() string { return "ninja" }

// transport is the handshake of both ends.
type transport struct {
	id     *Identity
	accept func(Peer) error
	// shown makes the server take clients without a certificate too, and show these certificates (DER) beside its own.
	shown func() [][]byte
	// silent: the client shows no certificate.
	silent bool
}

// strangerLife bounds a connection without a client certificate, which is for one call.
const strangerLife = time.Minute

func (t *transport) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var found Peer
	config := t.id.ClientTLS(t.remember(&found))
	config.NextProtos = []string{"h2"}
	if t.silent {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	}
	return t.handshake(ctx, tls.Client(raw, config), &found)
}

func (t *transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var found Peer
	config := t.id.ServerTLS(t.remember(&found))
	config.NextProtos = []string{"h2"}
	if t.shown != nil {
		t.id.admitStrangers(config, t.shown)
	}
	// gRPC has set a deadline on raw already.
	return t.handshake(context.Background(), tls.Server(raw, config), &found)
}

// remember keeps the peer that the handshake verified, so that the chain is checked once a connection.
func (t *transport) remember(found *Peer) func(Peer) error {
	return func(p Peer) error {
		*found = p
		return admit(t.accept, p)
	}
}

// admitStrangers makes a server's configuration ask for a client certificate without demanding one, and show the roots,
// so that a newcomer who knows the hash of one can check it.
func (i *Identity) admitStrangers(config *tls.Config, shown func() [][]byte) {
	config.ClientAuth = tls.RequestClientCert
	known := config.VerifyConnection
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return nil
		}
		return known(s)
	}
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := i.credential.Load()
		cert := c.cert
		cert.Certificate = append(slices.Clone(c.chain), shown()...)
		return &cert, nil
	}
}

func (t *transport) handshake(ctx context.Context, conn *tls.Conn, found *Peer) (net.Conn, credentials.AuthInfo, error) {
	own := t.id.Expires()
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, nil, err
	}
	now := t.id.now()
	ends := now.Add(strangerLife)
	if found.Leaf != nil {
		ends = found.Leaf.NotAfter
	}
	// A client that hides its own certificate does not depend on it.
	if own.Before(ends) && !t.silent {
		ends = own
	}
	info := AuthInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, Peer: *found}
	return t.id.guard(conn, ends.Sub(now), found.ID), info, nil
}

func (t *transport) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (t *transport) Clone() credentials.TransportCredentials {
	c := *t
	return &c
}

// OverrideServerName does nothing: peers are named by identity, not by host.
func (t *transport) OverrideServerName(string) error { return nil }

// guard closes conn after the given time, which is what is left of the certificates that opened it, and when the peer
// is banned.
func (i *Identity) guard(conn net.Conn, after time.Duration, peer ID) net.Conn {
	e := endAfter(conn, after)
	if peer != "" {
		e.unwatch = i.OnBan(peer, func() { e.Conn.Close() })
	}
	return e
}

// endAfter closes conn after the given time.
func endAfter(conn net.Conn, after time.Duration) *expiring {
	e := &expiring{Conn: conn, unwatch: func() {}}
	e.timer = time.AfterFunc(math.MaxInt64, func() { e.Conn.Close() })
	e.timer.Reset(after) // set only now, so that a timer that fires at once finds itself
	return e
}

// expiring is a connection that ends by itself.
type expiring struct {
	net.Conn
	timer   *time.Timer
	unwatch func()
}

func (e *expiring) Close() error {
	e.timer.Stop()
	e.unwatch()
	return e.Conn.Close()
}
