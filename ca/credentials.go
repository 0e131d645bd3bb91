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
// connect; nil is anyone the roots vouch for. What each caller may do is decided per message, by PeerFromContext.
//
// A connection ends when the first of the two certificates that opened it expires: grpc clients then connect anew by
// themselves, with renewed certificates, and a stream ends with codes.Unavailable.
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
	// strangers: the server takes clients without a certificate too, and shows the root.
	strangers bool
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
	if t.strangers {
		t.id.admitStrangers(config)
	}
	// gRPC has set a deadline on raw already.
	return t.handshake(context.Background(), tls.Server(raw, config), &found)
}

// remember keeps the peer that the handshake verified, so that the chain is checked once a connection.
func (t *transport) remember(found *Peer) func(Peer) error {
	return func(p Peer) error {
		*found = p
		if t.accept == nil {
			return nil
		}
		return t.accept(p)
	}
}

// admitStrangers makes a server's configuration ask for a client certificate without demanding one, and show the root,
// so that a newcomer who knows its hash can check it.
func (i *Identity) admitStrangers(config *tls.Config) {
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
		cert.Certificate = append(slices.Clone(c.chain), c.rootDER...)
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
	return EndAt(conn, ends.Sub(now)), info, nil
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

// EndAt closes conn after the given time, which is what is left of the certificates that opened it. Connections that do
// not come from gRPC use it too.
func EndAt(conn net.Conn, after time.Duration) net.Conn {
	e := &expiring{Conn: conn}
	e.timer = time.AfterFunc(math.MaxInt64, func() { e.Close() })
	e.timer.Reset(after) // set only now, so that a timer that fires at once finds itself
	return e
}

// expiring is a connection that ends by itself.
type expiring struct {
	net.Conn
	timer *time.Timer
}

func (e *expiring) Close() error {
	e.timer.Stop()
	return e.Conn.Close()
}
