package capability

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
)

// A voucher is a manager's word that a capability of its own still holds. Revocations and bans are told within their
// domain; a server of another one takes a capability only with a voucher of the last moments, and so is late by no more
// than a voucher's life.
//
//	voucher := unix-seconds(8, big-endian) signature(64)
//
// The signature is the manager's, context "ninja capability voucher 1", over SHA-256 of the capability's first block (its
// body and the manager's signature) and the time. It holds for everything that the capability is narrowed to.
const (
	contextVoucher = "ninja capability voucher 1"
	sizeVoucher    = 8 + sizeSignature
)

// VoucherLife is how long a voucher is good for, between hosts whose clocks agree; they may differ by a minute.
const VoucherLife = 30 * time.Second

// voucherMessage is what a voucher's signature is over.
func voucherMessage(first block, at int64) []byte {
	h := sha256.New()
	h.Write(first.body)
	h.Write(first.signature)
	return binary.BigEndian.AppendUint64(h.Sum(nil), uint64(at))
}

func makeVoucher(manager *ca.Identity, first block) []byte {
	at := manager.Now().Unix()
	return append(binary.BigEndian.AppendUint64(nil, uint64(at)), manager.Sign(contextVoucher, voucherMessage(first, at))...)
}

// checkVoucher checks a voucher by the key of the manager that issued the capability.
func checkVoucher(voucher []byte, manager ed25519.PublicKey, first block, now time.Time) error {
	if len(voucher) != sizeVoucher {
		return invalid("another domain's comes with its manager's voucher")
	}
	at := int64(binary.BigEndian.Uint64(voucher))
	if age := now.Sub(time.Unix(at, 0)); age > VoucherLife+clockSkew || age < -clockSkew {
		return invalid("its manager's voucher is of %v ago: get a new one, and compare the clocks", age.Round(time.Second))
	}
	if !ca.VerifySignature(manager, contextVoucher, voucherMessage(first, at), voucher[8:]) {
		return invalid("the signature of its manager's voucher is wrong")
	}
	return nil
}

// VerifyAny is Verify for capabilities of other trusted domains too, which want a voucher. What such a manager says of
// anyone's grants counts for the names of its own domain alone: the principal itself, and its groups under the domain's
// name, as in group:example.org/staff.
func (v *Verifier) VerifyAny(token, voucher []byte, holder ed25519.PublicKey) (Claims, error) {
	blocks, f, _, err := parse(token)
	if err != nil {
		return Claims{}, err
	}
	domain := f.principal.Domain()
	if domain == v.id.ID().Domain() {
		return v.Verify(token, holder)
	}
	trust, trusted := v.id.TrustIn(domain)
	if !trusted {
		return Claims{}, invalid("the domain %q is not trusted here", domain)
	}
	if len(f.chain) == 0 {
		return Claims{}, invalid("it comes without its manager's certificate")
	}
	// What was verified is remembered for as long as the domain is trusted by the same roots.
	memory := sha256.Sum256(append(slices.Clone(token), trust[:]...))
	c, ok := v.recall(memory)
	if !ok {
		if c, err = v.verifyChain(slices.Clone(token), true); err != nil {
			return Claims{}, err
		}
		c.Grants = namesOf(domain, c.Principal, c.Grants)
		v.remember(memory, c)
	}
	if err := v.holds(c, holder); err != nil {
		return Claims{}, err
	}
	if err := checkVoucher(voucher, c.manager, blocks[0], v.id.Now()); err != nil {
		return Claims{}, err
	}
	return c, nil
}

// namesOf are those of the grants that a manager of another domain can speak for, as ACLs here name them.
func namesOf(domain string, principal ca.ID, grants []Who) []Who {
	out := []Who{Who(principal), Everyone}
	for _, g := range grants {
		of, name, group := g.group()
		if group && of == "" && checkGroupName(name) == nil {
			out = append(out, Group(domain+"/"+name))
		}
	}
	return out
}

// Revoked says whether capabilities of the principal issued at the epoch were taken back.
func (m *Manager) Revoked(principal ca.ID, epoch uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return epoch < m.state.revoked[principal]
}

// Vouch implements the RPC.
func (m *Manager) Vouch(ctx context.Context, r *pb.VouchRequest) (*pb.VouchResponse, error) {
	peer, err := m.caller(ctx)
	if err != nil {
		return nil, err
	}
	claims, err := m.own.Verify(r.Token, peer.Key)
	if err != nil {
		m.record(ca.Record{Event: "vouch", By: peer.ID, Denied: err.Error()})
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	blocks, err := split(r.Token)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if claims.Principal.Domain() != m.id.ID().Domain() {
		return nil, status.Errorf(codes.PermissionDenied, "%s is of another domain", claims.Principal)
	}
	return &pb.VouchResponse{Version: 1, Voucher: makeVoucher(m.id, blocks[0])}, nil
}

// Vouch has the manager say that a capability, which the identity holds, still holds: for servers of other domains.
func (c *Client) Vouch(ctx context.Context, token []byte) ([]byte, error) {
	r, err := c.rpc.Vouch(ctx, &pb.VouchRequest{Version: 1, Token: token})
	if err != nil {
		return nil, fmt.Errorf("have a capability vouched for: %w", err)
	}
	return r.Voucher, nil
}
