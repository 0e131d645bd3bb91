package ca

import (
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ninja/internal/world"
)

func authorityOf(t *testing.T, domain string) *Authority {
	t.Helper()
	a, err := OpenAuthority(world.Real(), domain, filepath.Join(t.TempDir(), "ca"))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Another domain's roots vouch for that domain and for nothing else; what its kinds may do there they may not do here.
func TestDomainsTrustEachOther(t *testing.T) {
	here, there, third := authorityOf(t, "here"), authorityOf(t, "there"), authorityOf(t, "third")
	me := testIdentity(t, here, KindSDS, "s")
	if _, err := me.VerifyAny(testIdentity(t, there, KindSDS, "s").Chain()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a stranger: %v", err)
	}
	if err := here.TrustDomain("there", there.Roots()); err != nil {
		t.Fatal(err)
	}
	if err := me.Adopt(here.State()); err != nil {
		t.Fatal(err)
	}
	foreign := testIdentity(t, there, KindSDS, "s")
	p, err := me.VerifyAny(foreign.Chain())
	if err != nil || !p.Foreign {
		t.Fatal(p, err)
	}
	if _, err := me.Verify(foreign.Chain()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("taken for one of ours: %v", err)
	}
	if KindIs(KindSDS)(p) == nil || admit(nil, p) == nil {
		t.Error("what is for our own domain is open to another")
	}
	if err := KindIn([]string{"there"}, KindSDS)(p); err != nil {
		t.Error(err)
	}
	if KindIn([]string{"third"}, KindSDS)(p) == nil {
		t.Error("of a domain that was not named")
	}
	// The other domain's authority makes a certificate for one of ours, and for a third domain.
	there.domain = "here"
	for _, der := range there.roots {
		key, issuing, err := makeIssuing(there.world, "here", der.der, rootKeyOf(t, there))
		if err == nil {
			err = there.setIssuing(key, issuing)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	chain, err := there.Issue("spiffe://here/user/admin", foreign.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := me.VerifyAny(chain); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a foreign root vouches for %s: %v", p.ID, err)
	}
	if _, err := me.VerifyAny(testIdentity(t, third, KindSDS, "s").Chain()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("trust went on: %v", err)
	}
}

func rootKeyOf(t *testing.T, a *Authority) ed25519.PrivateKey {
	t.Helper()
	b, err := readBundle(a.dir, fileRootKey)
	if err != nil {
		t.Fatal(err)
	}
	return b.key
}

func TestTrustedDomainsAreKept(t *testing.T) {
	here, there := authorityOf(t, "here"), authorityOf(t, "there")
	for _, tc := range []struct {
		domain string
		roots  [][]byte
		says   string
	}{
		{"here", there.Roots(), "rotate"},
		{"elsewhere", there.Roots(), `of the domain "there"`},
		{"there", testIdentity(t, there, KindUser, "u").Chain()[:1], "not a root"},
		{"there", [][]byte{[]byte("no certificate")}, "malformed"},
		{"a b", there.Roots(), "identity"},
		{"there", [][]byte{{}, {}, {}, {}, {}}, "at most 4"},
	} {
		if err := here.TrustDomain(tc.domain, tc.roots); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", tc.domain, err, tc.says)
		}
	}
	if err := here.TrustDomain("there", there.Roots()); err != nil {
		t.Fatal(err)
	}
	again, err := OpenAuthority(world.Real(), "here", here.dir)
	if err != nil || len(again.State().Domains["there"]) != 1 {
		t.Fatal(err)
	}
	i := testIdentity(t, again, KindSDS, "s")
	dir := t.TempDir()
	if err := i.Save(dir); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(dir, world.Real())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loaded.VerifyAny(testIdentity(t, there, KindUser, "u").Chain()); err != nil {
		t.Errorf("forgotten over a restart: %v", err)
	}
	ended := make(chan struct{})
	loaded.OnBan("spiffe://there/user/u", func() { close(ended) })
	if err := again.TrustDomain("there", nil); err != nil {
		t.Fatal(err)
	}
	if err := loaded.Adopt(again.State()); err != nil {
		t.Fatal(err)
	}
	if _, err := loaded.VerifyAny(testIdentity(t, there, KindUser, "u").Chain()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("the trust did not end: %v", err)
	}
	<-ended // what was open with it too
}
