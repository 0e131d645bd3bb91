package ca

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "ninja/ca/capb"
	"ninja/internal/world"
)

// callTimeout bounds one call to one address of an authority.
const callTimeout = 10 * time.Second

// call makes one call at each address until one succeeds or says no. All errors name the address.
func call(ctx context.Context, w world.World, addresses []string, creds credentials.TransportCredentials,
	do func(context.Context, pb.AuthorityClient) error) error {
	if len(addresses) == 0 {
		return errors.New("no address of a certificate authority is known")
	}
	var failed error
	for _, address := range addresses {
		err := callAt(ctx, w, address, creds, do)
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("certificate authority at %s: %w", address, err))
		if c := status.Code(err); c != codes.Unavailable && c != codes.DeadlineExceeded {
			break
		}
	}
	return failed
}

func callAt(ctx context.Context, w world.World, address string, creds credentials.TransportCredentials,
	do func(context.Context, pb.AuthorityClient) error) error {
	conn, err := connect(w, address, creds)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return do(ctx, pb.NewAuthorityClient(conn))
}

func connect(w world.World, address string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return w.Net.Dial(ctx, "tcp", address)
		}))
}

// Join redeems a join token: it makes a key, finds the authority whose root the token names, and returns the identity
// that the token is for. Save it: the token is used up.
func Join(ctx context.Context, w world.World, token string) (*Identity, error) {
	_, key, err := ed25519.GenerateKey(w.Rand)
	if err != nil {
		return nil, err
	}
	return join(ctx, w, token, key)
}

// JoinIn is Join and Save in one, safe against crashes: the key is kept in the directory before the token is used, and
// the authority answers the same key again, so that whoever is cut off can try once more with the same token.
func JoinIn(ctx context.Context, w world.World, token, dir string) (*Identity, error) {
	b, err := readBundle(dir, fileJoining)
	if errors.Is(err, fs.ErrNotExist) {
		if _, b.key, err = ed25519.GenerateKey(w.Rand); err == nil {
			err = writeBundle(dir, fileJoining, b)
		}
	}
	if err == nil && b.key == nil {
		err = fmt.Errorf("%s holds no key: remove it", filepath.Join(dir, fileJoining))
	}
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	i, err := join(ctx, w, token, b.key)
	if err != nil {
		return nil, err
	}
	if err := i.Save(dir); err != nil {
		return nil, err
	}
	return i, os.Remove(filepath.Join(dir, fileJoining))
}

func join(ctx context.Context, w world.World, token string, key ed25519.PrivateKey) (*Identity, error) {
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	pub := key.Public().(ed25519.PublicKey)
	request := &pb.JoinRequest{
		Version: 1, Secret: t.secret[:], Key: pub, Signature: ed25519.Sign(key, inContext(contextJoin, joinMessage(t.secret[:], pub))),
	}
	var made *pb.Certificate
	err = call(ctx, w, t.Addresses, &pinned{root: t.Root, now: w.Now}, func(ctx context.Context, c pb.AuthorityClient) error {
		made, err = c.Join(ctx, request)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	// Who answered has been checked against the token's root, so its word on the domain's roots, which may have changed
	// since the token was made, is good.
	i, err := NewIdentity(key, made.Chain, made.Roots, w.Now)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	i.authorities = t.Addresses
	return i, nil
}

// pinned are the credentials of a newcomer, who knows only the hash of the root.
type pinned struct {
	root [sha256.Size]byte
	now  func() time.Time
}

func (p *pinned) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var found Peer
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, Time: p.now, NextProtos: []string{"h2"}, SessionTicketsDisabled: true,
		InsecureSkipVerify: true, // names are IDs: VerifyConnection checks everything
		VerifyConnection: func(s tls.ConnectionState) (err error) {
			found, err = p.verify(s.PeerCertificates)
			return err
		},
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, nil, err
	}
	info := AuthInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, Peer: found}
	return endAfter(conn, strangerLife), info, nil
}

// maxShown bounds the certificates that an authority shows to a newcomer: its chain, its roots, and how each vouches for
// its successor.
const maxShown = 16

// verify finds the pinned root among what the server shows and checks the server's chain to it alone, over however many
// successors it has had.
func (p *pinned) verify(shown []*x509.Certificate) (Peer, error) {
	if len(shown) == 0 || len(shown) > maxShown {
		return Peer{}, fmt.Errorf("%w: the server shows %d certificates", ErrUntrusted, len(shown))
	}
	pool, between, found := x509.NewCertPool(), x509.NewCertPool(), false
	for _, c := range shown[1:] {
		if sha256.Sum256(c.Raw) == p.root {
			pool.AddCert(c)
			found = true
		} else {
			between.AddCert(c)
		}
	}
	if !found {
		return Peer{}, fmt.Errorf("%w: the server is not the authority that made the token", ErrUntrusted)
	}
	if _, err := shown[0].Verify(options(pool, between, p.now())); err != nil {
		return Peer{}, fmt.Errorf("%w: %v", ErrUntrusted, err)
	}
	peer, err := peerOf(shown[0])
	if err == nil {
		err = KindIs(KindCA)(peer)
	}
	return peer, err
}

func (p *pinned) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("a join token makes no server")
}

func (p *pinned) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}
func (p *pinned) Clone() credentials.TransportCredentials { c := *p; return &c }
func (p *pinned) OverrideServerName(string) error         { return nil }

// Client asks an authority over the network, as one identity. It connects for each call: calls are rare.
type Client struct {
	world     world.World
	id        *Identity
	addresses []string
}

// NewClient makes a Client of the authority at one of the addresses; none are those that the identity remembers.
func NewClient(w world.World, id *Identity, addresses ...string) *Client {
	if len(addresses) == 0 {
		addresses = id.Authorities()
	}
	return &Client{world: w, id: id, addresses: addresses}
}

// RenewIdentity fetches a new certificate for i, also when the present one has expired not too long ago.
func (c *Client) RenewIdentity(ctx context.Context, i *Identity) (chain, roots [][]byte, err error) {
	creds := &transport{id: i, accept: KindIs(KindCA)}
	request := &pb.RenewRequest{Version: 1}
	if now := i.Chain(); !i.now().Before(i.Expires()) {
		creds.silent = true
		request.Chain, request.Signature = now, i.Sign(contextRenewal, now[0])
	}
	err = call(ctx, c.world, c.addresses, creds, func(ctx context.Context, a pb.AuthorityClient) error {
		made, err := a.Renew(ctx, request)
		if err == nil {
			chain, roots = made.Chain, made.Roots
		}
		return err
	})
	return chain, roots, err
}

// MakeToken has a join token made for an ID; only the kind ca and user/admin may. Life 0 is the authority's default.
func (c *Client) MakeToken(ctx context.Context, id ID, life time.Duration) (text string, err error) {
	err = c.call(ctx, func(ctx context.Context, a pb.AuthorityClient) error {
		r, err := a.MakeToken(ctx, &pb.MakeTokenRequest{Version: 1, Id: string(id), LifeSeconds: uint32(life / time.Second)})
		text = r.GetToken()
		return err
	})
	return text, err
}

// Ban has a principal banned, or that lifted; only the kind ca and user/admin may. See Server.Ban.
func (c *Client) Ban(ctx context.Context, id ID, lift bool) error {
	return c.call(ctx, func(ctx context.Context, a pb.AuthorityClient) error {
		_, err := a.Ban(ctx, &pb.BanRequest{Version: 1, Id: string(id), Lift: lift})
		return err
	})
}

// errEnough ends a Follow that has told what was asked for.
var errEnough = errors.New("enough")

// State asks once whom to trust: for programs that do not run for long enough to follow.
func (c *Client) State(ctx context.Context) (state State, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	got := false
	err = c.Follow(ctx, func(s *State) error {
		if s == nil {
			return nil
		}
		state, got = *s, true
		return errEnough
	})
	if got {
		err = nil
	}
	return state, err
}

// Follow tells whom to trust, as Guide says, over one connection.
func (c *Client) Follow(ctx context.Context, each func(*State) error) error {
	var failed error
	for _, address := range c.addresses {
		err := c.followAt(ctx, address, each)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed = errors.Join(failed, fmt.Errorf("certificate authority at %s: %w", address, err))
	}
	if failed == nil {
		failed = errors.New("no address of a certificate authority is known")
	}
	return failed
}

func (c *Client) followAt(ctx context.Context, address string, each func(*State) error) error {
	conn, err := connect(c.world, address, ClientCredentials(c.id, KindIs(KindCA)))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := pb.NewAuthorityClient(conn).Follow(ctx, &pb.FollowRequest{Version: 1})
	for err == nil {
		var r *pb.FollowResponse
		if r, err = stream.Recv(); err == nil {
			err = each(stateFrom(r.State))
		}
	}
	return err
}

// Rotate begins the change to a new root, and says where it is; only the kind ca and user/admin may.
func (c *Client) Rotate(ctx context.Context) (Rotation, error) { return c.rotate(ctx, false) }

// Rotation says where the change of the root is; only the kind ca and user/admin may ask.
func (c *Client) Rotation(ctx context.Context) (Rotation, error) { return c.rotate(ctx, true) }

func (c *Client) rotate(ctx context.Context, status bool) (r Rotation, err error) {
	err = c.call(ctx, func(ctx context.Context, a pb.AuthorityClient) error {
		p, err := a.Rotate(ctx, &pb.RotateRequest{Version: 1, Status: status})
		if err != nil {
			return err
		}
		r = Rotation{
			Root: p.Root, Next: p.Next, Last: p.Last, IssuingExpires: time.Unix(p.IssuingExpiresUnix, 0), RootKeyPresent: p.RootKeyPresent,
		}
		if p.Next != nil {
			r.SwitchAt = time.Unix(p.SwitchUnix, 0)
		}
		if p.Last != nil {
			r.RetireAt = time.Unix(p.RetireUnix, 0)
		}
		return nil
	})
	return r, err
}

// TrustDomain replaces the roots (DER) and the routing keys (RoutingKey.Marshal) of another domain, none to end the trust;
// only the kind ca and user/admin may.
func (c *Client) TrustDomain(ctx context.Context, domain string, roots, keys [][]byte) error {
	return c.call(ctx, func(ctx context.Context, a pb.AuthorityClient) error {
		_, err := a.TrustDomain(ctx, &pb.TrustDomainRequest{Version: 1, Domain: domain, Roots: roots, Keys: keys})
		return err
	})
}

// Audit reads the newest lines of the audit log, oldest first; only the kind ca and user/admin may.
func (c *Client) Audit(ctx context.Context, lines int) (out []string, err error) {
	err = c.call(ctx, func(ctx context.Context, a pb.AuthorityClient) error {
		r, err := a.Audit(ctx, &pb.AuditRequest{Version: 1, Lines: uint32(max(0, lines))})
		out = r.GetLines()
		return err
	})
	return out, err
}

func (c *Client) call(ctx context.Context, do func(context.Context, pb.AuthorityClient) error) error {
	return call(ctx, c.world, c.addresses, ClientCredentials(c.id, KindIs(KindCA)), do)
}
