package ca

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"math/big"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// times scales a count: NINJA_PROVE=1 runs the full one, and NINJA_PROVE_SCALE multiplies it.
func times(t testing.TB, small, full int) int {
	n := small
	if os.Getenv("NINJA_PROVE") == "1" {
		n = full
		if scale, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); err == nil && scale > 0 {
			n *= scale
		}
	}
	t.Logf("%d cases", n)
	return n
}

// Threats, row 23: 10^5 mutated chains, 0 accepted.
func TestMutatedChains(t *testing.T) {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("NINJA_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("NINJA_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	a, other := testAuthority(t), testAuthority(t)
	id := testIdentity(t, a, KindUser, "u")
	parts := append(id.Chain(), a.roots[0].der)
	parts = append(parts, testIdentity(t, other, KindUser, "u").Chain()...)
	parts = append(parts, other.roots[0].der)
	leaf, issuing := id.Chain()[0], id.Chain()[1]
	accepted, genuine, n := 0, 0, times(t, 2_000, 102_000)
	for range n {
		chain := slices.Clone(id.Chain())
		if r.IntN(4) == 0 { // certificates of both authorities in any order
			chain = nil
			for range 1 + r.IntN(4) {
				chain = append(chain, parts[r.IntN(len(parts))])
			}
		} else { // bits flipped or bytes lost
			i := r.IntN(len(chain))
			der := slices.Clone(chain[i])
			if at := r.IntN(len(der)); r.IntN(4) == 0 {
				der = slices.Delete(der, at, at+1)
			} else {
				der[at] ^= 1 << r.IntN(8)
			}
			chain[i] = der
		}
		p, err := id.Verify(chain)
		// The same leaf with its issuing certificate, whole, somewhere behind it is the truth.
		truth := bytes.Equal(chain[0], leaf) && slices.ContainsFunc(chain[1:], func(der []byte) bool { return bytes.Equal(der, issuing) })
		switch {
		case truth && err != nil:
			t.Errorf("the truth is refused: %v", err)
		case truth:
			genuine++
		case err == nil:
			accepted++
			t.Errorf("accepted as %s", p.ID)
		}
	}
	t.Logf("PROVE %d chains: %d of them genuine, and taken; of %d mutated and mixed %d accepted", n, genuine, n-genuine, accepted)
	if accepted != 0 || genuine == 0 {
		t.Errorf("%d accepted, %d genuine", accepted, genuine)
	}
}

// Whoever steals the issuing key cannot speak for another domain, nor make authorities.
func TestTheIssuingCertificateIsConstrained(t *testing.T) {
	a := testAuthority(t)
	id := testIdentity(t, a, KindUser, "u")
	pub, key, err := ed25519.GenerateKey(a.world.Rand)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(id ID, parent *x509.Certificate, signer ed25519.PrivateKey, authority bool) []byte {
		der, err := x509.CreateCertificate(a.world.Rand, &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
			URIs: []*url.URL{id.URL()}, IsCA: authority, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}, parent, pub, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	if _, err := id.Verify([][]byte{leaf("spiffe://test/user/v", a.issuer, a.key, false), a.issuing}); err != nil {
		t.Errorf("of the domain: %v", err)
	}
	if p, err := id.Verify([][]byte{leaf("spiffe://elsewhere/user/v", a.issuer, a.key, false), a.issuing}); err == nil {
		t.Errorf("of another domain: accepted as %s", p.ID)
	}
	below := leaf("spiffe://test/ca/below", a.issuer, a.key, true)
	parent, err := x509.ParseCertificate(below)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := id.Verify([][]byte{leaf("spiffe://test/user/v", parent, key, false), below, a.issuing}); err == nil {
		t.Errorf("by an authority below: accepted as %s", p.ID)
	}
	if p, err := id.Verify([][]byte{below, a.issuing}); err == nil {
		t.Errorf("an authority as principal: accepted as %s", p.ID)
	}
}
