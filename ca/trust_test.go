package ca

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"
)

// maker makes certificates that no Authority would.
type maker struct {
	t testing.TB
	a *Authority
	r *rand.Rand
}

type signer struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

// make signs a certificate; without a signer it is its own.
func (m *maker) make(name string, by *signer, change func(*x509.Certificate)) *signer {
	m.t.Helper()
	pub, key, err := ed25519.GenerateKey(m.a.world.Rand)
	if err != nil {
		m.t.Fatal(err)
	}
	now := m.a.world.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	change(c)
	parent, parentKey := c, key
	if by != nil {
		parent, parentKey = by.cert, by.key
	}
	der, err := x509.CreateCertificate(m.a.world.Rand, c, parent, pub, parentKey)
	if err != nil {
		m.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return &signer{made, key}
}

func (m *maker) leaf(id string, by *signer, change func(*x509.Certificate)) []byte {
	return m.make("", by, func(c *x509.Certificate) {
		u, err := url.Parse(id)
		if err != nil {
			m.t.Fatal(err)
		}
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.URIs = false, false, x509.KeyUsageDigitalSignature, []*url.URL{u}
		change(c)
	}).cert.Raw
}

func same(*x509.Certificate) {}

func poolOf(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool
}

// bend changes one thing about a certificate, each so that some chains do not hold.
func (m *maker) bend(c *x509.Certificate) {
	now := m.a.world.Now()
	switch m.r.IntN(24) {
	case 0:
		c.NotAfter = now.Add(time.Duration(m.r.IntN(3)-1) * 10 * time.Minute)
	case 1:
		c.NotBefore = now.Add(time.Duration(m.r.IntN(3)-1) * 10 * time.Minute)
	case 2:
		c.PermittedDNSDomainsCritical, c.PermittedURIDomains = true, []string{[]string{"test", "other"}[m.r.IntN(2)]}
	case 3:
		c.ExcludedURIDomains = []string{[]string{"test", "other"}[m.r.IntN(2)]}
	case 4:
		c.MaxPathLen, c.MaxPathLenZero = m.r.IntN(2), true
	case 5:
		c.IsCA = !c.IsCA
		c.BasicConstraintsValid = true
	case 6:
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: m.r.IntN(2) == 0, Value: []byte{5, 0}}}
	case 7: // policies demanded of all below: 2.5.29.36, requireExplicitPolicy [0] 0
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 3, 0x80, 1, 0}}}
	}
}

// Whatever was verified before, and however often, an answer is that of a check from the beginning.
func TestWhatIsRememberedChangesNoAnswer(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &maker{t, testAuthority(t), rand.New(rand.NewPCG(seed, 0))}
	held, refused, remembered := 0, 0, 0
	for range times(t, 60, 3000) {
		var roots, issuers []*signer
		for range 2 {
			roots = append(roots, m.make("root", nil, m.bend))
		}
		for range 4 {
			issuers = append(issuers, m.make("issuing", roots[m.r.IntN(2)], m.bend))
		}
		issuers = append(issuers, m.make("below", issuers[0], m.bend))
		pool := poolOf(roots[0].cert) // the other root is foreign
		warm := newTrust(pool)
		for range 30 {
			chain := [][]byte{m.leaf([]string{"spiffe://test/user/u", "spiffe://other/user/u"}[m.r.IntN(2)],
				append(slices.Clone(issuers), roots...)[m.r.IntN(7)], m.bend)}
			for range m.r.IntN(3) {
				chain = append(chain, issuers[m.r.IntN(len(issuers))].cert.Raw)
			}
			now := m.a.world.Now().Add(time.Duration(m.r.IntN(5)-2) * 7 * time.Minute)
			for range 2 {
				want, wantErr := newTrust(pool).verify(chain, now)
				got, err := warm.verify(chain, now)
				if (err == nil) != (wantErr == nil) || got.ID != want.ID {
					t.Fatalf("remembering says %v %v, a check from the beginning %v %v", got.ID, err, want.ID, wantErr)
				}
				if err == nil {
					held++
				} else {
					refused++
				}
			}
		}
		remembered += len(warm.paths)
	}
	t.Logf("%d held, %d refused, %d paths remembered", held, refused, remembered)
	if held < refused/20 || remembered == 0 {
		t.Error("the cases show too little")
	}
}

// An issuing certificate that has ended, that is of other roots, or whose root has ended, vouches for nobody, however
// often it did before.
func TestARememberedIssuerEnds(t *testing.T) {
	m := &maker{t, testAuthority(t), nil}
	now := m.a.world.Now()
	in := func(d time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = now.Add(d) }
	}
	for _, tc := range []struct {
		name          string
		root, issuing time.Duration
	}{{"issuing certificate", time.Hour, time.Minute}, {"root", time.Minute, time.Hour}} {
		root := m.make("root", nil, in(tc.root))
		issuing := m.make("issuing", root, in(tc.issuing))
		trusted := newTrust(poolOf(root.cert))
		chain := func() [][]byte {
			return [][]byte{m.leaf("spiffe://test/user/u", issuing, in(time.Hour)), issuing.cert.Raw}
		}
		for range 2 {
			if _, err := trusted.verify(chain(), now); err != nil {
				t.Fatal(err)
			}
		}
		if len(trusted.paths) != 1 {
			t.Errorf("%s: %d paths remembered", tc.name, len(trusted.paths))
		}
		if p, err := trusted.verify(chain(), now.Add(2*time.Minute)); err == nil {
			t.Errorf("the %s has ended, yet %s is accepted", tc.name, p.ID)
		}
		if p, err := trusted.verify(chain(), now.Add(-2*time.Hour)); err == nil {
			t.Errorf("the %s has not begun, yet %s is accepted", tc.name, p.ID)
		}
	}
}

// A change of roots forgets what was verified against the old ones.
func TestNewRootsForget(t *testing.T) {
	a, other := testAuthority(t), testAuthority(t)
	peer := testIdentity(t, a, KindUser, "peer")
	id := testIdentity(t, a, KindUser, "u")
	if _, err := id.Verify(peer.Chain()); err != nil {
		t.Fatal(err)
	}
	chain, err := other.Issue(id.ID(), id.Public(), LeafLife)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Renew(chain, other.Roots()); err != nil {
		t.Fatal(err)
	}
	if p, err := id.Verify(peer.Chain()); err == nil {
		t.Errorf("%s is of a root that is no longer trusted", p.ID)
	}
}

func TestRememberedPathsAreBounded(t *testing.T) {
	m := &maker{t, testAuthority(t), nil}
	root := m.make("root", nil, same)
	trusted := newTrust(poolOf(root.cert))
	for range 3 * maxPaths {
		issuing := m.make("issuing", root, same)
		if _, err := trusted.verify([][]byte{m.leaf("spiffe://test/user/u", issuing, same), issuing.cert.Raw}, m.a.world.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(trusted.paths); n != maxPaths {
		t.Errorf("%d paths, want %d", n, maxPaths)
	}
}

// BenchmarkVerify is the check of a leaf; signature is the floor, the one signature that it cannot do without.
func BenchmarkVerify(b *testing.B) {
	a := testAuthority(b)
	peer, id := testIdentity(b, a, KindUser, "peer"), testIdentity(b, a, KindUser, "u")
	message, signed := []byte("m"), peer.Sign("c", []byte("m"))
	b.Run("issuer=known", func(b *testing.B) {
		for b.Loop() {
			if _, err := id.Verify(peer.Chain()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("issuer=new", func(b *testing.B) {
		pool := id.credential.Load().anchors.own.roots
		for b.Loop() {
			if _, err := newTrust(pool).verify(peer.Chain(), id.now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("signature", func(b *testing.B) {
		for b.Loop() {
			if !VerifySignature(peer.Public(), "c", message, signed) {
				b.Fatal("refused")
			}
		}
	})
}
