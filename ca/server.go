package ca

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "ninja/ca/capb"
)

// Store keeps the tokens that can be redeemed; base/dds has it. CompareAndSet replaces a value whose revision is expect
// (0: there is none), and returns when the new one will survive a crash.
type Store interface {
	Get(ctx context.Context, table, key string) (value []byte, revision uint64, err error)
	CompareAndSet(ctx context.Context, table, key string, value []byte, expect uint64) (revision uint64, swapped bool, err error)
	List(ctx context.Context, table, prefix string, each func(key string, value []byte, revision uint64) error) error
	Delete(ctx context.Context, table, key string) error
}

const (
	tableToken  = "ca-token"
	tableBanned = "ca-banned"
)

// TokenLife is how long a join token can be redeemed unless its maker says otherwise. RenewGrace is how long after its
// end a certificate can still be renewed by its key: a laptop that slept need not join again.
const (
	TokenLife    = time.Hour
	maxTokenLife = 30 * 24 * time.Hour
	RenewGrace   = 30 * 24 * time.Hour
)

// ServerConfig configures a Server.
type ServerConfig struct {
	// Authority signs. Required.
	Authority *Authority
	// Identity is the server's own, of kind ca. Required.
	Identity *Identity
	// Store keeps join tokens. Required.
	Store Store
	// Addresses, host:port, are put into tokens. Required for MakeToken.
	Addresses []string
	// Audit is told of every issue, renewal and denial; nil is nowhere.
	Audit *AuditLog
	// Log is told of trouble; nil is slog.Default().
	Log *slog.Logger
}

// Server is the authority's gRPC service. It wants a listener of its own, with its own Credentials: on it callers
// without a certificate are let in, to join.
type Server struct {
	pb.UnimplementedAuthorityServer
	cfg ServerConfig
}

// NewServer makes a Server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Authority == nil || cfg.Identity == nil || cfg.Store == nil {
		return nil, errors.New("certificate authority: an authority, an identity and a store are required")
	}
	if cfg.Identity.ID().Kind() != KindCA {
		return nil, fmt.Errorf("certificate authority: %s is not of the kind %s", cfg.Identity.ID(), KindCA)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Server{cfg: cfg}
	return s, s.recallBans(context.Background())
}

// Credentials are for the gRPC server that it is registered with.
func (s *Server) Credentials() credentials.TransportCredentials {
	return &transport{id: s.cfg.Identity, shown: s.cfg.Authority.shown}
}

// Register adds the service to a gRPC server that uses Credentials.
func (s *Server) Register(g *grpc.Server) { pb.RegisterAuthorityServer(g, rpcServer{s}) }

// pending is a token as stored, under the hash of its secret.
type pending struct {
	ID      ID        `json:"id"`
	Expires time.Time `json:"expires"`
	// Key is the key that redeemed it. The same key may ask again until it expires: the first answer may have been lost.
	Key []byte `json:"key,omitempty"`
}

func tokenKey(secret []byte) string {
	h := sha256.Sum256(secret)
	return hex.EncodeToString(h[:])
}

// MakeToken makes a join token for an ID of the domain, redeemable for the given time (0: TokenLife).
func (s *Server) MakeToken(ctx context.Context, by, id ID, life time.Duration) (Token, error) {
	if _, err := ParseID(string(id)); err != nil {
		return Token{}, err
	}
	if id.Domain() != s.cfg.Authority.Domain() {
		return Token{}, fmt.Errorf("make a join token: %s is not of the domain %s", id, s.cfg.Authority.Domain())
	}
	if life == 0 {
		life = TokenLife
	}
	if life < 0 || life > maxTokenLife {
		return Token{}, fmt.Errorf("make a join token: life of %v, at most %v", life, maxTokenLife)
	}
	token, err := newToken(s.cfg.Authority.world, s.cfg.Authority.Roots()[0], s.cfg.Addresses)
	if err != nil {
		return Token{}, err
	}
	if err := s.sweep(ctx); err != nil {
		return Token{}, fmt.Errorf("make a join token: %w", err)
	}
	value, err := json.Marshal(pending{ID: id, Expires: s.now().Add(life)})
	if err != nil {
		return Token{}, err
	}
	_, swapped, err := s.cfg.Store.CompareAndSet(ctx, tableToken, tokenKey(token.secret[:]), value, 0)
	if err == nil && !swapped {
		err = errors.New("the same secret was drawn twice")
	}
	if err != nil {
		return Token{}, fmt.Errorf("make a join token: %w", err)
	}
	return token, s.cfg.Audit.Write(Record{Time: s.now(), Event: "token", By: by, ID: id})
}

// sweep removes tokens that can no longer be redeemed.
func (s *Server) sweep(ctx context.Context) error {
	var old []string
	err := s.cfg.Store.List(ctx, tableToken, "", func(key string, value []byte, _ uint64) error {
		var p pending
		if json.Unmarshal(value, &p) != nil || !s.now().Before(p.Expires) {
			old = append(old, key)
		}
		return nil
	})
	for _, key := range old {
		err = errors.Join(err, s.cfg.Store.Delete(ctx, tableToken, key))
	}
	return err
}

func (s *Server) now() time.Time { return s.cfg.Authority.world.Now() }

// errToken is the one answer to any token that is no good.
var errToken = status.Error(codes.PermissionDenied, "the join token is unknown, expired or used: have a new one made")

// redeem binds a token to a key, durably, and returns the ID that it is for.
func (s *Server) redeem(ctx context.Context, secret, key []byte) (ID, error) {
	name := tokenKey(secret)
	value, revision, err := s.cfg.Store.Get(ctx, tableToken, name)
	if err != nil {
		return "", status.Errorf(codes.Unavailable, "read the token: %v", err)
	}
	var p pending
	if revision == 0 || json.Unmarshal(value, &p) != nil || !s.now().Before(p.Expires) {
		return "", errToken
	}
	if p.Key != nil {
		if !ed25519.PublicKey(p.Key).Equal(ed25519.PublicKey(key)) {
			return p.ID, errToken
		}
		return p.ID, nil
	}
	p.Key = key
	if value, err = json.Marshal(p); err != nil {
		return "", err
	}
	_, swapped, err := s.cfg.Store.CompareAndSet(ctx, tableToken, name, value, revision)
	if err != nil {
		return "", status.Errorf(codes.Unavailable, "use the token: %v", err)
	}
	if !swapped { // another key was quicker
		return p.ID, errToken
	}
	return p.ID, nil
}

// rpcServer is the Server as gRPC sees it: MakeToken and Ban have other signatures there.
type rpcServer struct{ *Server }

// Join implements the RPC.
func (s *Server) Join(ctx context.Context, r *pb.JoinRequest) (*pb.Certificate, error) {
	if len(r.Secret) != len(Token{}.secret) || !VerifySignature(r.Key, contextJoin, joinMessage(r.Secret, r.Key), r.Signature) {
		return nil, status.Error(codes.InvalidArgument, "the request is not signed by the key that it is for")
	}
	id, err := s.redeem(ctx, r.Secret, r.Key)
	if err != nil {
		return nil, s.denied(Record{Event: "join", ID: id}, err)
	}
	return s.issue(ctx, "join", id, r.Key)
}

// Renew implements the RPC.
func (s *Server) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.Certificate, error) {
	peer, err := PeerFromContext(ctx)
	if err != nil {
		peer, err = s.late(r)
	}
	if err != nil {
		return nil, s.denied(Record{Event: "renew", ID: peer.ID}, status.Error(codes.Unauthenticated, err.Error()))
	}
	return s.issue(ctx, "renew", peer.ID, peer.Key)
}

// late checks a certificate that ended not too long ago.
func (s *Server) late(r *pb.RenewRequest) (Peer, error) {
	if len(r.Chain) == 0 {
		return Peer{}, fmt.Errorf("%w: neither a client certificate nor one in the request", ErrUntrusted)
	}
	ended := lastValid(r.Chain[0], s.now())
	trusted, err := s.cfg.Authority.everTrusted() // its root may have been replaced since
	if err != nil {
		return Peer{}, err
	}
	peer, err := trusted.verify(r.Chain, ended)
	if err != nil {
		return Peer{}, err
	}
	if s.now().Sub(ended) > RenewGrace {
		return peer, fmt.Errorf("%w: the certificate of %s ended more than %v ago: join again with a new token", ErrUntrusted, peer.ID, RenewGrace)
	}
	if !VerifySignature(peer.Key, contextRenewal, r.Chain[0], r.Signature) {
		return peer, fmt.Errorf("%w: not signed by the key of %s", ErrUntrusted, peer.ID)
	}
	return peer, nil
}

func (s *Server) issue(ctx context.Context, event string, id ID, key ed25519.PublicKey) (*pb.Certificate, error) {
	_, banned, err := s.cfg.Store.Get(ctx, tableBanned, string(id))
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "read the bans: %v", err)
	}
	if banned != 0 {
		return nil, s.denied(Record{Event: event, ID: id}, status.Errorf(codes.PermissionDenied, "%s is banned", id))
	}
	chain, err := s.cfg.Authority.Issue(id, key, 0)
	if err == nil {
		hash := sha256.Sum256(chain[0])
		err = s.cfg.Audit.Write(Record{Time: s.now(), Event: event, ID: id, Certificate: hex.EncodeToString(hash[:])})
	}
	if err != nil {
		s.cfg.Log.Error("cannot issue", "id", id, "error", err)
		return nil, status.Errorf(codes.Unavailable, "issue a certificate for %s: %v", id, err)
	}
	return &pb.Certificate{Version: 1, Chain: chain, Roots: s.cfg.Authority.Roots()}, nil
}

// denied records a denial and returns its reason.
func (s *Server) denied(r Record, reason error) error {
	r.Time, r.Denied = s.now(), status.Convert(reason).Message()
	if err := s.cfg.Audit.Write(r); err != nil {
		s.cfg.Log.Error("cannot write the audit log", "error", err)
	}
	return reason
}

// Roots implements the RPC.
func (s *Server) Roots(context.Context, *pb.RootsRequest) (*pb.RootsResponse, error) {
	return &pb.RootsResponse{Version: 1, Roots: s.cfg.Authority.Roots()}, nil
}

// admin lets the kind ca and user/admin pass.
func (s *Server) admin(ctx context.Context, event string, about ID) (Peer, error) {
	peer, err := PeerFromContext(ctx)
	if err != nil {
		return Peer{}, s.denied(Record{Event: event, ID: about}, status.Error(codes.Unauthenticated, err.Error()))
	}
	admin, err := MakeID(s.cfg.Authority.Domain(), KindUser, "admin")
	if err != nil || peer.ID.Kind() != KindCA && peer.ID != admin {
		err = status.Errorf(codes.PermissionDenied, "only %s and the kind %s may do that", admin, KindCA)
		return Peer{}, s.denied(Record{Event: event, By: peer.ID, ID: about}, err)
	}
	return peer, nil
}

// MakeToken implements the RPC.
func (s rpcServer) MakeToken(ctx context.Context, r *pb.MakeTokenRequest) (*pb.MakeTokenResponse, error) {
	peer, err := s.admin(ctx, "token", ID(r.Id[:min(len(r.Id), MaxIDLength)]))
	if err != nil {
		return nil, err
	}
	t, err := s.Server.MakeToken(ctx, peer.ID, ID(r.Id), time.Duration(r.LifeSeconds)*time.Second)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &pb.MakeTokenResponse{Version: 1, Token: t.Text()}, nil
}

// Audit implements the RPC.
func (s *Server) Audit(ctx context.Context, r *pb.AuditRequest) (*pb.AuditResponse, error) {
	if _, err := s.admin(ctx, "audit", ""); err != nil {
		return nil, err
	}
	lines, err := s.cfg.Audit.Tail(int(r.Lines))
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "read the audit log: %v", err)
	}
	return &pb.AuditResponse{Version: 1, Lines: slices.Clone(lines)}, nil
}
