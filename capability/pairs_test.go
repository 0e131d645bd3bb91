package capability

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// twoSites are domains whose authorities have exchanged trust files.
func twoSites(t testing.TB) (here, there *site, r map[*site]*Routing) {
	here, there = newSiteOf(t, world.Real(), "here"), newSiteOf(t, world.Real(), "there")
	r = map[*site]*Routing{}
	for _, s := range []*site{here, there} {
		var err error
		if r[s], err = NewRouting(t.Context(), s.id, newMemory(), s.manager); err != nil {
			t.Fatal(err)
		}
	}
	exchange(t, r, here, there)
	exchange(t, r, there, here)
	return here, there, r
}

// exchange has one site trust another.
func exchange(t testing.TB, r map[*site]*Routing, from, to *site) {
	t.Helper()
	var keys []ca.RoutingKey
	for _, k := range r[from].keys {
		keys = append(keys, ca.NewRoutingKey(from.id, k.PublicKey().Bytes()))
	}
	if err := to.ca.TrustDomain(from.ca.Domain(), from.ca.Roots(), keys...); err != nil {
		t.Fatal(err)
	}
	if err := to.id.Adopt(to.ca.State()); err != nil {
		t.Fatal(err)
	}
}

// TestBothManagersHaveTheSamePair: without a word between them, a direction and a domain each of its own, and nobody
// with another key has it.
func TestBothManagersHaveTheSamePair(t *testing.T) {
	here, there, r := twoSites(t)
	a, b := routesFrom(r[here].routes()).Pairs["there"], routesFrom(r[there].routes()).Pairs["here"]
	if len(a.Here) != 1 || !bytes.Equal(a.Here[0], b.There[0]) || !bytes.Equal(a.There[0], b.Here[0]) {
		t.Fatal("the two managers have not got the same keys")
	}
	if bytes.Equal(a.Here[0], a.There[0]) {
		t.Error("both directions have one key")
	}
	third, _ := ecdh.X25519().GenerateKey(rand.Reader)
	for _, other := range []string{"there", "third"} {
		p, err := pairOf([]*ecdh.PrivateKey{third}, other, [][]byte{r[here].keys[0].PublicKey().Bytes()}, "here")
		if err != nil || bytes.Equal(p.There[0], a.Here[0]) {
			t.Errorf("a third one that calls itself %s has the key too: %v", other, err)
		}
	}
	// With the same keys under another name there is another secret: a key that two domains use binds neither to the other.
	if p, _ := pairOf(r[there].keys, "third", [][]byte{r[here].keys[0].PublicKey().Bytes()}, "here"); bytes.Equal(p.There[0], a.Here[0]) {
		t.Error("the secret is not bound to the domains")
	}
	if _, err := pairOf(r[there].keys, "there", [][]byte{make([]byte, 32)}, "here"); err == nil {
		t.Error("a key that gives everyone the same secret was taken")
	}
}

// TestARoutingKeyChangesWithoutAGap: while only one side has the other's new key, one key of tokens is still common.
func TestARoutingKeyChangesWithoutAGap(t *testing.T) {
	here, there, r := twoSites(t)
	meets := func(when string) {
		t.Helper()
		a, b := routesFrom(r[here].routes()).Pairs["there"], routesFrom(r[there].routes()).Pairs["here"]
		for _, way := range [][2][][]byte{{a.Here, b.There}, {a.There, b.Here}} {
			if !slices.ContainsFunc(way[0], func(k []byte) bool {
				return slices.ContainsFunc(way[1], func(l []byte) bool { return bytes.Equal(k, l) })
			}) {
				t.Errorf("%s: nothing in common", when)
			}
		}
	}
	meets("before")
	if err := r[here].rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	meets("one has a new key, the other the old trust file")
	if err := r[there].rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	meets("both have new keys, and old trust files")
	exchange(t, r, here, there)
	meets("one has the new trust file")
	exchange(t, r, there, here)
	meets("both have")
	again, err := NewRouting(t.Context(), here.id, r[here].store, here.manager)
	if err != nil || len(again.keys) != 2 || !again.keys[0].Equal(r[here].keys[0]) {
		t.Errorf("the keys are not kept: %d, %v", len(again.keys), err)
	}
	// A trust file of before there were routing keys: what is shown to everyone is found, and there is no pair.
	if err := here.ca.TrustDomain("there", there.ca.Roots()); err != nil {
		t.Fatal(err)
	}
	_ = here.id.Adopt(here.ca.State())
	if p := r[here].routes(); len(p.Pairs) != 0 {
		t.Error("a pair without a key")
	}
}

// TestTokensOfGrantsMeet: what an ACL here names and what a principal there presents are locked alike, for a principal,
// for a group of there, and for a group of here with a member from there; and for nobody else.
func TestTokensOfGrantsMeet(t *testing.T) {
	here, there, r := twoSites(t)
	x, y := there.identity(ca.KindUser, "x").ID(), there.identity(ca.KindUser, "y").ID()
	here.manager.state.setGroup("partners", []ca.ID{x, "spiffe://here/user/ann"})
	there.manager.state.setGroup("staff", []ca.ID{x})
	here.manager.state.setGroup("staff", []ca.ID{"spiffe://here/user/ann"})
	a, b := routesFrom(r[here].routes()), routesFrom(r[there].routes())
	meet := func(grant Who, of ca.ID) bool {
		for _, l := range a.Locks(grant) {
			for _, k := range b.Keys(there.manager.state.grants(of), 1000) {
				if bytes.Equal(l.Key, k.Key) && l.Name == k.Name {
					return true
				}
			}
		}
		return false
	}
	for grant, opens := range map[Who][2]bool{
		Who(x): {true, false}, Who(y): {false, true}, "group:there/staff": {true, false}, "group:partners": {true, false},
		"group:staff": {false, false}, "spiffe://here/user/x": {false, false}, "group:other": {false, false}, Everyone: {false, false},
	} {
		if got := [2]bool{meet(grant, x), meet(grant, y)}; got != opens {
			t.Errorf("%s opens for x, y: %v, want %v", grant, got, opens)
		}
	}
	if g := a.Groups(x); !slices.Equal(g, []Who{"group:partners"}) || a.Groups(y) != nil {
		t.Errorf("groups of x here: %v", g)
	}
	// Of many the first are those of the own domain, then the principal by name.
	if k := b.Keys(there.manager.state.grants(x), 3); k[2].Name != Who(x) || !bytes.Equal(k[2].Key, b.Pairs["here"].There[0]) {
		t.Errorf("the first keys: %v", k)
	}
}

// TestAnotherDomainSpeaksForItsOwnNames (threat 6, 23): whatever a manager of another domain signs, nobody gets by it what
// is not a name of that domain, and a domain that is not trusted, or by another root, says nothing at all.
func TestAnotherDomainSpeaksForItsOwnNames(t *testing.T) {
	here, there, _ := twoSites(t)
	x := there.identity(ca.KindUser, "x")
	v := NewVerifier(here.id, nil)
	forge := func(principal ca.ID, by *ca.Identity, grants ...Who) ([]byte, []byte) {
		f := first{
			issued: time.Now().Unix(), expires: time.Now().Add(time.Hour).Unix(), ops: All, holder: x.Public(), principal: principal,
			grants: grants, chain: by.Chain(),
		}
		body := f.encode()
		token := appendBlock(append([]byte(magic), 1), body, by.Sign(contextFirst, body))
		blocks, _ := split(token)
		return token, makeVoucher(by, blocks[0])
	}
	token, voucher := forge(x.ID(), there.id, Who(x.ID()), "spiffe://here/user/ann", "spiffe://there/user/y", "group:staff",
		"group:here/staff", "group:there/x", "group:third/x", "group:../x", "group:a/b/c", Everyone, "group:", "everyone ")
	c, err := v.VerifyAny(token, voucher, x.Public())
	if err != nil {
		t.Fatal(err)
	}
	if want := []Who{Who(x.ID()), Everyone, "group:there/staff"}; !slices.Equal(c.Grants, want) {
		t.Errorf("grants %v, want %v", c.Grants, want)
	}
	if _, err := v.Verify(token, x.Public()); !errors.Is(err, ErrInvalid) {
		t.Errorf("where only the own domain's are taken: %v", err)
	}
	refused := func(what string, token, voucher []byte) {
		t.Helper()
		if c, err := v.VerifyAny(token, voucher, x.Public()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: taken as %v (%v)", what, c.Grants, err)
		}
	}
	of := func(principal ca.ID, by *ca.Identity) { token, voucher = forge(principal, by, Who(principal)) }
	for _, kind := range []string{ca.KindUser, ca.KindSDS, ca.KindCA, ca.KindAPC} {
		of(x.ID(), there.identity(kind, "m"))
		refused("signed by a "+kind, token, voucher)
	}
	of("spiffe://here/user/ann", there.id)
	refused("for a principal of here", token, voucher)
	of("spiffe://third/user/x", there.id)
	refused("for a third domain", token, voucher)
	third := newSiteOf(t, world.Real(), "there") // another authority of that name
	of(x.ID(), third.id)
	refused("by another root of the same name", token, voucher)
	token, voucher = forge(x.ID(), there.id, Who(x.ID()))
	if _, err := v.VerifyAny(token, voucher, there.id.Public()); !errors.Is(err, ErrInvalid) {
		t.Errorf("held by another key: %v", err)
	}
	// The trust goes: at once, also what was remembered.
	if err := here.ca.TrustDomain("there", nil); err != nil {
		t.Fatal(err)
	}
	_ = here.id.Adopt(here.ca.State())
	refused("of a domain that is trusted no more", token, voucher)
}

// TestVouchersAreFresh: a capability of another domain goes with its rights, no later than the life of a voucher and what
// two clocks may differ.
func TestVouchersAreFresh(t *testing.T) {
	w := world.Real()
	var ahead time.Duration
	w.Now = func() time.Time { return time.Now().Add(ahead) }
	here, there := newSiteOf(t, w, "here"), newSiteOf(t, world.Real(), "there")
	if err := here.ca.TrustDomain("there", there.ca.Roots()); err != nil {
		t.Fatal(err)
	}
	_ = here.id.Adopt(here.ca.State())
	there.serve()
	x, eve := there.identity(ca.KindUser, "x"), there.identity(ca.KindUser, "eve")
	v := NewVerifier(here.id, nil)
	token := there.token(x)
	voucher, err := there.client(x).Vouch(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	good := func(token, voucher []byte, holder *ca.Identity) bool {
		_, err := v.VerifyAny(token, voucher, holder.Public())
		return err == nil
	}
	if !good(token, voucher, x) || good(token, nil, x) || good(there.token(x), voucher, x) != bytes.Equal(there.token(x), token) {
		t.Error("a voucher is for its capability, and none is not enough")
	}
	for i := range voucher {
		voucher[i] ^= 1
		if good(token, voucher, x) {
			t.Fatalf("taken with byte %d of the voucher changed", i)
		}
		voucher[i] ^= 1
	}
	// What it is narrowed to is vouched for with it, by whoever holds it.
	apc := there.identity(ca.KindAPC, "apc")
	narrowed := narrow(t, token, x, Narrowing{Ops: Find, Template: []byte("<a/>"), Delegate: apc.Public()})
	if other, err := there.client(apc).Vouch(t.Context(), narrowed); err != nil || !good(narrowed, other, apc) || !good(narrowed, voucher, apc) {
		t.Error("a delegate's is not taken", err)
	}
	if _, err := there.client(eve).Vouch(t.Context(), token); err == nil {
		t.Error("vouched for whoever has stolen it")
	}
	if err := there.client(there.identity(ca.KindUser, "admin")).RevokePrincipal(t.Context(), x.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := there.client(x).Vouch(t.Context(), token); err == nil || !strings.Contains(err.Error(), "have changed") {
		t.Errorf("vouched for what was revoked: %v", err)
	}
	for ahead = 0; good(token, voucher, x); ahead += time.Second {
	}
	t.Logf("PROVE revoked in its own domain, a capability was last taken in another after %v", ahead)
	if ahead > VoucherLife+clockSkew+2*time.Second {
		t.Errorf("taken for %v", ahead)
	}
	ahead = -2 * time.Minute
	if good(token, voucher, x) {
		t.Error("a voucher from the future was taken")
	}
}

// TestRoutesAreFollowed: a server hears of another domain, of guests, and of the end of both within seconds.
func TestRoutesAreFollowed(t *testing.T) {
	here, there, r := twoSites(t)
	here.routing = r[here]
	here.serve()
	f, err := NewRoutesFollower(FollowerConfig{World: here.world, Identity: here.identity(ca.KindSDS, "sds"), Address: here.address, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan struct{})
	go func() { defer close(ran); f.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	eventually := func(what string, true func(*Routes) bool) {
		t.Helper()
		begun := time.Now()
		for !true(f.Routes()) {
			if time.Since(begun) > 5*time.Second {
				t.Fatalf("not after 5 s: %s", what)
			}
			_ = world.Sleep(t.Context(), 10*time.Millisecond)
		}
	}
	eventually("the pair", func(r *Routes) bool { return r != nil && len(r.Pairs["there"].Here) == 1 && len(r.Secret) == 32 })
	x := there.identity(ca.KindUser, "x").ID()
	here.manager.mu.Lock()
	here.manager.state.setGroup("partners", []ca.ID{x})
	here.manager.mu.Unlock()
	eventually("a guest", func(r *Routes) bool { return len(r.Groups(x)) == 1 })
	if err := here.ca.TrustDomain("there", nil); err != nil {
		t.Fatal(err)
	}
	_ = here.id.Adopt(here.ca.State())
	eventually("the end of the trust", func(r *Routes) bool { return len(r.Pairs) == 0 && len(r.Groups(x)) == 0 })
	user := here.client(here.identity(ca.KindUser, "u"))
	if keys, err := user.RoutingKeys(t.Context(), false); err != nil || len(keys) != 1 {
		t.Errorf("a user reads the public keys: %d, %v", len(keys), err)
	}
	if _, err := user.RoutingKeys(t.Context(), true); err == nil {
		t.Error("a user changed the key")
	}
	if keys, err := here.client(here.identity(ca.KindUser, "admin")).RoutingKeys(t.Context(), true); err != nil || len(keys) != 2 {
		t.Errorf("the administrator changes the key: %d, %v", len(keys), err)
	}
	stranger, err := NewRoutesFollower(FollowerConfig{World: here.world, Identity: here.identity(ca.KindBase, "b"), Address: here.address, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	short, end := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer end()
	_ = stranger.Run(short)
	if stranger.Routes() != nil {
		t.Error("who is no SDS server was told the secrets")
	}
}
