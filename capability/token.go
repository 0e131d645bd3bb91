package capability

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"ninja/ca"
)

// A capability is a chain of signed blocks. The manager signs the first; whoever holds it can add blocks that narrow it,
// without asking anyone, and can name the key that holds it from there on. All integers are big-endian.
//
//	token   := 'N' 'C' version(1)=1 count(1) block{count}                         at most 16 KiB, 8 blocks
//	block   := length(2) body(length) signature(64)
//	first   := issued(8) expires(8) epoch(8) operations(1) holder(32)
//	           principal(1+n) grants(1){ who(2+n) } certificates(1){ der(2+n) }   the manager's chain, leaf first
//	further := expires(8) operations(1) flags(1) [delegate(32)] [template(2+n)] [path(1+n)]
//	           flags: 1 delegate, 2 template, 4 path; the fields stand in this order
//
// The first signature is the manager's under the context "ninja capability 1" over the body. Each further one is made
// by the holder of the chain before it, under "ninja capability block 1" over SHA-256 of all bytes of the blocks before
// it and the body: a block fits nowhere else. Times are in seconds since 1970, and the earliest expiry rules.
const (
	magic        = "NC\x01"
	contextFirst = "ninja capability 1"
	contextBlock = "ninja capability block 1"

	maxToken        = 16 << 10
	maxBlocks       = 8
	maxGrants       = 128
	maxCertificates = 3
	maxTemplate     = 4 << 10
	maxPath         = 255
	sizeKey         = ed25519.PublicKeySize
	sizeSignature   = ed25519.SignatureSize
)

const (
	hasDelegate = 1 << iota
	hasTemplate
	hasPath
)

// ErrInvalid is wrapped by every error about a capability that does not hold.
var ErrInvalid = errors.New("capability not valid")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// block is one signed part of a token, as sub-slices of it.
type block struct {
	before    []byte // all blocks before this one
	body      []byte
	signature []byte
}

// message is what a further block's signature is over.
func (b block) message() []byte {
	h := sha256.Sum256(b.before)
	return append(h[:], b.body...)
}

// split takes a token apart without looking into the blocks.
func split(token []byte) ([]block, error) {
	if len(token) > maxToken {
		return nil, invalid("%d bytes, at most %d", len(token), maxToken)
	}
	rest, ok := bytes.CutPrefix(token, []byte(magic))
	if !ok || len(rest) == 0 {
		return nil, invalid("not a capability of version 1")
	}
	count := int(rest[0])
	all := rest[1:]
	if count == 0 || count > maxBlocks {
		return nil, invalid("%d blocks, at most %d", count, maxBlocks)
	}
	blocks := make([]block, count)
	r := reader{b: all}
	for i := range blocks {
		before := all[:len(all)-len(r.b)]
		blocks[i] = block{before: before, body: r.take(int(r.uint16())), signature: r.take(sizeSignature)}
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return blocks, nil
}

// first is the manager's block.
type first struct {
	issued, expires int64
	epoch           uint64
	ops             Operations
	holder          ed25519.PublicKey
	principal       ca.ID
	grants          []Who
	chain           [][]byte
}

func (f first) encode() []byte {
	var b []byte
	b = binary.BigEndian.AppendUint64(b, uint64(f.issued))
	b = binary.BigEndian.AppendUint64(b, uint64(f.expires))
	b = binary.BigEndian.AppendUint64(b, f.epoch)
	b = append(b, byte(f.ops))
	b = append(b, f.holder...)
	b = append(b, byte(len(f.principal)))
	b = append(b, f.principal...)
	b = append(b, byte(len(f.grants)))
	for _, g := range f.grants {
		b = append16(b, []byte(g))
	}
	b = append(b, byte(len(f.chain)))
	for _, c := range f.chain {
		b = append16(b, c)
	}
	return b
}

func decodeFirst(body []byte) (first, error) {
	r := reader{b: body}
	f := first{
		issued: int64(r.uint64()), expires: int64(r.uint64()), epoch: r.uint64(), ops: Operations(r.uint8()),
		holder: ed25519.PublicKey(r.take(sizeKey)), principal: ca.ID(r.take(int(r.uint8()))),
	}
	grants := int(r.uint8())
	if grants > maxGrants {
		return f, invalid("%d grants, at most %d", grants, maxGrants)
	}
	for range grants {
		f.grants = append(f.grants, Who(r.take(int(r.uint16()))))
	}
	certificates := int(r.uint8())
	if certificates > maxCertificates {
		return f, invalid("%d certificates, at most %d", certificates, maxCertificates)
	}
	for range certificates {
		f.chain = append(f.chain, r.take(int(r.uint16())))
	}
	if err := r.end(); err != nil {
		return f, err
	}
	if f.ops&^All != 0 {
		return f, invalid("unknown operations")
	}
	return f, nil
}

// further is a narrowing block.
type further struct {
	expires  int64
	ops      Operations
	delegate ed25519.PublicKey // nil: the holder stays
	template []byte            // nil: none
	path     string            // "": none
}

func (f further) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(f.expires))
	flags := len(b) + 1
	b = append(b, byte(f.ops), 0)
	if f.delegate != nil {
		b[flags] |= hasDelegate
		b = append(b, f.delegate...)
	}
	if f.template != nil {
		b[flags] |= hasTemplate
		b = append16(b, f.template)
	}
	if f.path != "" {
		b[flags] |= hasPath
		b = append(b, byte(len(f.path)))
		b = append(b, f.path...)
	}
	return b
}

func decodeFurther(body []byte) (further, error) {
	r := reader{b: body}
	f := further{expires: int64(r.uint64()), ops: Operations(r.uint8())}
	flags := r.uint8()
	if flags&hasDelegate != 0 {
		f.delegate = ed25519.PublicKey(r.take(sizeKey))
	}
	if flags&hasTemplate != 0 {
		f.template = r.take(int(r.uint16()))
	}
	if flags&hasPath != 0 {
		f.path = string(r.take(int(r.uint8())))
	}
	if err := r.end(); err != nil {
		return f, err
	}
	if f.ops&^All != 0 || flags&^(hasDelegate|hasTemplate|hasPath) != 0 || len(f.template) > maxTemplate ||
		(flags&hasPath != 0 && f.path == "") {
		return f, invalid("a narrowing block says what version 1 does not know")
	}
	return f, nil
}

// claims are what the first block says alone.
func (f first) claims() Claims {
	return Claims{
		Principal: f.principal, Grants: f.grants, Ops: f.ops, Expires: time.Unix(f.expires, 0), Holder: f.holder,
		Epoch: f.epoch,
	}
}

// narrow applies a further block. It can only take away.
func (c *Claims) narrow(f further) error {
	c.Ops &= f.ops
	if e := time.Unix(f.expires, 0); e.Before(c.Expires) {
		c.Expires = e
	}
	if f.template != nil {
		c.Templates = append(c.Templates, f.template)
	}
	if f.path != "" {
		if c.Path != "" && c.Path != f.path {
			return invalid("narrowed to two paths")
		}
		c.Path = f.path
	}
	if f.delegate != nil {
		c.Holder = f.delegate
	}
	return nil
}

// parse reads all blocks and what they claim together, with no look at any signature.
func parse(token []byte) ([]block, first, Claims, error) {
	blocks, err := split(token)
	if err != nil {
		return nil, first{}, Claims{}, err
	}
	f, err := decodeFirst(blocks[0].body)
	if err != nil {
		return nil, first{}, Claims{}, err
	}
	c := f.claims()
	for _, b := range blocks[1:] {
		n, err := decodeFurther(b.body)
		if err == nil {
			err = c.narrow(n)
		}
		if err != nil {
			return nil, first{}, Claims{}, err
		}
	}
	return blocks, f, c, nil
}

// appendBlock writes a block.
func appendBlock(b, body, signature []byte) []byte {
	return append(append16(b, body), signature...)
}

func append16(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// reader takes fields off the front; after the first that is not there all are empty and end tells.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if r.failed || n > len(r.b) {
		r.failed = true
		r.b = nil
		return nil
	}
	field := r.b[:n:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) uint8() uint8 {
	if f := r.take(1); f != nil {
		return f[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if f := r.take(2); f != nil {
		return binary.BigEndian.Uint16(f)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if f := r.take(8); f != nil {
		return binary.BigEndian.Uint64(f)
	}
	return 0
}

func (r *reader) end() error {
	if r.failed || len(r.b) != 0 {
		return invalid("cut short or too long")
	}
	return nil
}
