package ca

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"ninja/internal/world"
)

// Token is a one-time permission to join a domain under one ID. Its text is "ninja-join:" and, in URL-safe base64
// without padding:
//
//	version(1)=1 root(32) secret(32) count(1) { length(1) address(length) }{count}
//
// Root is the SHA-256 of the root certificate, by which the newcomer knows the true authority; the authority keeps the
// ID and the expiry, and only a hash of the secret.
type Token struct {
	Addresses []string // host:port of the authority, at least one, at most 8
	Root      [sha256.Size]byte
	secret    [32]byte
}

const (
	tokenPrefix    = "ninja-join:"
	maxTokenText   = 4096
	maxAddresses   = 8
	contextJoin    = "ninja join 1"
	contextRenewal = "ninja renew 1"
)

func newToken(w world.World, root []byte, addresses []string) (Token, error) {
	t := Token{Addresses: addresses, Root: sha256.Sum256(root)}
	w.Fill(t.secret[:])
	return t, t.check()
}

func (t Token) check() error {
	if len(t.Addresses) == 0 || len(t.Addresses) > maxAddresses {
		return fmt.Errorf("join token: %d addresses, want 1 to %d", len(t.Addresses), maxAddresses)
	}
	for _, a := range t.Addresses {
		if a == "" || len(a) > 255 || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("join token: address %q", a)
		}
	}
	return nil
}

// Text is the token itself. It is a secret.
func (t Token) Text() string {
	b := []byte{1}
	b = append(b, t.Root[:]...)
	b = append(b, t.secret[:]...)
	b = append(b, byte(len(t.Addresses)))
	for _, a := range t.Addresses {
		b = append(b, byte(len(a)))
		b = append(b, a...)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// String describes the token without its secret.
func (t Token) String() string {
	return fmt.Sprintf("join token for %v, root %x", t.Addresses, t.Root[:4])
}

// GoString keeps the secret out of %#v too.
func (t Token) GoString() string { return t.String() }

// ParseToken reads what Text writes. Errors never quote the text.
func ParseToken(text string) (Token, error) {
	var t Token
	bad := errors.New("not a join token: copy it whole, from \"ninja-join:\" on")
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok || len(encoded) > maxTokenText {
		return t, bad
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(b) < 1+len(t.Root)+len(t.secret)+1 || b[0] != 1 {
		return t, bad
	}
	b = b[1:]
	b = b[copy(t.Root[:], b):]
	b = b[copy(t.secret[:], b):]
	count := int(b[0])
	b = b[1:]
	for range count {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return Token{}, bad
		}
		t.Addresses = append(t.Addresses, string(b[1:1+int(b[0])]))
		b = b[1+int(b[0]):]
	}
	if len(b) != 0 || t.check() != nil {
		return Token{}, bad
	}
	return t, nil
}

// joinMessage is what a newcomer signs to show that it has the key it asks a certificate for.
func joinMessage(secret, key []byte) []byte {
	h := sha256.Sum256(secret)
	return append(h[:], key...)
}
