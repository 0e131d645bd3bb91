package capability

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"ninja/ca"
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

// seeded returns randomness whose seed is printed, or is NINJA_SEED.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("NINJA_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("NINJA_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func narrow(t testing.TB, token []byte, holder *ca.Identity, n Narrowing) []byte {
	t.Helper()
	out, err := Narrow(token, holder, n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNarrowAndDelegate(t *testing.T) {
	s := newSite(t)
	user, apc, proxy := s.identity(ca.KindUser, "u"), s.identity(ca.KindAPC, "a"), s.identity(ca.KindProxy, "p")
	whole := s.token(user)
	ends := time.Now().Add(time.Minute)
	forAPC := narrow(t, whole, user, Narrowing{Ops: Use | SendTo, Expires: ends, Template: []byte("<a/>"), Delegate: apc.Public()})
	forProxy := narrow(t, forAPC, apc, Narrowing{Ops: Use | Find, Template: []byte("<b/>"), Path: "path-1", Delegate: proxy.Public()})
	t.Logf("1, 2, 3 blocks: %d, %d, %d bytes", len(whole), len(forAPC), len(forProxy))
	c, err := s.verifier().Verify(forProxy, proxy.Public())
	if err != nil {
		t.Fatal(err)
	}
	if c.Principal != user.ID() || c.Ops != Use || c.Path != "path-1" || c.Expires.Unix() != ends.Unix() || !c.Holder.Equal(proxy.Public()) ||
		!slices.EqualFunc(c.Templates, [][]byte{[]byte("<a/>"), []byte("<b/>")}, bytes.Equal) {
		t.Errorf("%+v", c)
	}
	for name, try := range map[string]func() ([]byte, error){
		"another path":   func() ([]byte, error) { return Narrow(forProxy, proxy, Narrowing{Path: "path-2"}) },
		"not the holder": func() ([]byte, error) { return Narrow(forProxy, apc, Narrowing{Ops: Find}) },
		"a long template": func() ([]byte, error) {
			return Narrow(forProxy, proxy, Narrowing{Template: make([]byte, maxTemplate+1)})
		},
		"an odd delegate":  func() ([]byte, error) { return Narrow(forProxy, proxy, Narrowing{Delegate: []byte("key")}) },
		"nothing to parse": func() ([]byte, error) { return Narrow(nil, proxy, Narrowing{}) },
	} {
		if _, err := try(); err == nil {
			t.Errorf("narrowed: %s", name)
		}
	}
	for len(forProxy) > 0 {
		if forProxy, err = Narrow(forProxy, proxy, Narrowing{}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("a chain without end: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	s, elsewhere := newSite(t), newSite(t)
	user, other := s.identity(ca.KindUser, "u"), s.identity(ca.KindUser, "v")
	token := s.token(user)
	forOther := narrow(t, token, user, Narrowing{Delegate: other.Public()})
	v := s.verifier()
	if _, err := v.Verify(token, user.Public()); err != nil {
		t.Fatal(err)
	}
	// A user who signs like a manager: the signature is right, the kind is not.
	impostor := &Manager{id: other, state: newState("test")}
	byUser, _ := impostor.issue(ca.Peer{ID: "spiffe://test/user/admin", Key: other.Public()}, time.Hour)
	truncated := append([]byte(magic+"\x01"), forOther[len(magic)+1:len(token)]...)
	for name, tc := range map[string]struct {
		token []byte
		key   ed25519.PublicKey
	}{
		"stolen":                   {token, other.Public()},
		"no key":                   {token, nil},
		"delegated away":           {forOther, user.Public()},
		"last block cut off":       {truncated, other.Public()},
		"of another domain's root": {elsewhere.token(user), user.Public()},
		"by no manager":            {byUser, other.Public()},
		"empty":                    {nil, user.Public()},
		"too long":                 {make([]byte, maxToken+1), user.Public()},
	} {
		if c, err := v.Verify(tc.token, tc.key); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// A ban of the principal ends every capability that speaks for it, whoever holds it by now.
func TestTheCapabilitiesOfTheBannedEnd(t *testing.T) {
	s := newSite(t)
	user, creator, server := s.identity(ca.KindUser, "u"), s.identity(ca.KindAPC, "a"), s.identity(ca.KindSDS, "s")
	token := narrow(t, s.token(user), user, Narrowing{Delegate: creator.Public()})
	v := NewVerifier(server, nil)
	if _, err := v.Verify(token, creator.Public()); err != nil {
		t.Fatal(err)
	}
	if err := server.Adopt(ca.State{Roots: server.Roots(), Banned: []ca.ID{user.ID()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token, creator.Public()); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

func TestCapabilitiesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		user := s.identity(ca.KindUser, "u")
		v := s.verifier()
		// The manager's certificate ends before the capability would.
		time.Sleep(ca.LeafLife / 2)
		token := s.token(user)
		c, err := v.Verify(token, user.Public())
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(c.Expires); left > ca.LeafLife/2 {
			t.Errorf("%v left, longer than the manager's certificate", left)
		}
		short := narrow(t, token, user, Narrowing{Expires: time.Now().Add(time.Minute)})
		if _, err := v.Verify(short, user.Public()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + time.Second)
		if _, err := v.Verify(short, user.Public()); !errors.Is(err, ErrInvalid) {
			t.Error("expired, and accepted from the cache:", err)
		}
		if _, err := s.verifier().Verify(short, user.Public()); !errors.Is(err, ErrInvalid) {
			t.Error("expired, and accepted:", err)
		}
		if _, err := v.Verify(token, user.Public()); err != nil {
			t.Error(err)
		}
		time.Sleep(ca.LeafLife)
		if _, err := v.Verify(token, user.Public()); !errors.Is(err, ErrInvalid) {
			t.Error("expired:", err)
		}
	})
}

// Threats, row 6: 10^5 uses from another key, 0 accepted.
func TestStolenCapabilities(t *testing.T) {
	s, r := newSite(t), seeded(t)
	user := s.identity(ca.KindUser, "u")
	token := s.token(user)
	v := s.verifier()
	accepted := 0
	tried := times(t, 2_000, 100_000)
	for range tried {
		key := make([]byte, ed25519.PublicKeySize)
		if copy(key, user.Public()); r.IntN(2) == 0 {
			key[r.IntN(len(key))] ^= 1 << r.IntN(8)
		} else {
			for i := range key {
				key[i] = byte(r.Uint32())
			}
		}
		if _, err := v.Verify(token, key); err == nil {
			accepted++
		}
	}
	if accepted != 0 {
		t.Errorf("%d accepted", accepted)
	}
	t.Logf("PROVE %d uses of capabilities from another key: %d accepted", tried, accepted)
	if _, err := v.Verify(token, user.Public()); err != nil {
		t.Error(err)
	}
}

// Threats, rows 3 and 6: tokens with bits flipped, bytes cut, blocks spliced, repeated or exchanged; none is accepted.
func TestMutatedCapabilities(t *testing.T) {
	s, r := newSite(t), seeded(t)
	samples := sampleTokens(t, s)
	v := s.verifier()
	accepted := 0
	tried := times(t, 5_000, 1_000_000)
	for range tried {
		mutant := mutate(r, samples)
		if slices.ContainsFunc(samples, func(o sample) bool { return bytes.Equal(o.token, mutant) }) {
			continue
		}
		c, err := v.verifyChain(mutant, false)
		if err == nil && slices.ContainsFunc(samples, func(o sample) bool { return c.Holder.Equal(o.holder) }) {
			accepted++
			t.Errorf("accepted: %x", mutant)
		}
	}
	if accepted != 0 {
		t.Errorf("%d accepted", accepted)
	}
	t.Logf("PROVE %d mutated and spliced capabilities: %d accepted", tried, accepted)
}

// sample is a good token and who may present it.
type sample struct {
	token  []byte
	holder ed25519.PublicKey
}

func sampleTokens(t testing.TB, s *site) []sample {
	var out []sample
	for i := range 2 {
		user, apc := s.identity(ca.KindUser, fmt.Sprint("u", i)), s.identity(ca.KindAPC, fmt.Sprint("a", i))
		one := s.token(user)
		two := narrow(t, one, user, Narrowing{Ops: Find, Template: []byte("<a/>"), Delegate: apc.Public()})
		three := narrow(t, two, apc, Narrowing{Path: "p"})
		out = append(out, sample{one, user.Public()}, sample{two, apc.Public()}, sample{three, apc.Public()})
	}
	return out
}

// mutate makes something new of good tokens.
func mutate(r *rand.Rand, samples []sample) []byte {
	token := slices.Clone(samples[r.IntN(len(samples))].token)
	switch r.IntN(4) {
	case 0: // flip bits
		for range 1 + r.IntN(3) {
			token[r.IntN(len(token))] ^= 1 << r.IntN(8)
		}
	case 1: // cut or double a run of bytes
		from := r.IntN(len(token))
		to := from + r.IntN(len(token)-from+1)
		if r.IntN(2) == 0 {
			token = slices.Delete(token, from, to)
		} else {
			token = slices.Insert(token, from, slices.Clone(token[from:to])...)
		}
	case 2: // put blocks of several tokens together
		token = []byte(magic + "\x00")
		for range 1 + r.IntN(4) {
			blocks, err := split(samples[r.IntN(len(samples))].token)
			if err != nil {
				panic(err)
			}
			b := blocks[r.IntN(len(blocks))]
			token = appendBlock(token, b.body, b.signature)
			token[len(magic)]++
		}
	case 3: // set the count of blocks
		token[len(magic)] = byte(r.IntN(maxBlocks + 2))
	}
	return token
}

// "Narrowing adds a block ...; it never widens": random chains of narrowings, some by hand-made blocks that try to widen.
func TestNarrowingNeverWidens(t *testing.T) {
	s := newSite(t)
	holders := []*ca.Identity{s.identity(ca.KindUser, "u"), s.identity(ca.KindAPC, "a"), s.identity(ca.KindProxy, "p")}
	v := s.verifier()
	rapid.Check(t, func(t *rapid.T) {
		at := 0
		token := s.token(holders[at])
		before, err := v.Verify(token, holders[at].Public())
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, maxBlocks-1).Draw(t, "blocks") {
			next := rapid.IntRange(0, len(holders)-1).Draw(t, "delegate")
			f := further{
				expires: time.Now().Unix() + rapid.Int64Range(600, 100_000).Draw(t, "life"), ops: Operations(rapid.Uint8Range(0, uint8(All)).Draw(t, "ops")),
				path: rapid.SampledFrom([]string{"", "p", "q"}).Draw(t, "path"), delegate: holders[next].Public(),
			}
			if rapid.Bool().Draw(t, "has template") {
				f.template = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "template")
			}
			b := block{before: token[len(magic)+1:], body: f.encode()}
			wider := appendBlock(slices.Clone(token), b.body, holders[at].Sign(contextBlock, b.message()))
			wider[len(magic)]++
			after, err := v.Verify(wider, holders[next].Public())
			if err != nil {
				if before.Path == "" || f.path == "" || f.path == before.Path {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if after.Ops&^before.Ops != 0 || after.Expires.After(before.Expires) || after.Principal != before.Principal ||
				!slices.Equal(after.Grants, before.Grants) || before.Path != "" && after.Path != before.Path ||
				len(after.Templates) < len(before.Templates) || !slices.EqualFunc(after.Templates[:len(before.Templates)], before.Templates, bytes.Equal) {
				t.Fatalf("%+v grew to %+v", before, after)
			}
			token, before, at = wider, after, next
		}
	})
}

// Run it with -fuzzminimizetime 20x: by default the engine spends its time making inputs smaller.
func FuzzVerify(f *testing.F) {
	s := newSiteIn(f, fixed())
	samples := sampleTokens(f, s)
	for _, o := range samples {
		f.Add(o.token)
	}
	f.Fuzz(func(t *testing.T, token []byte) {
		if slices.ContainsFunc(samples, func(o sample) bool { return bytes.Equal(o.token, token) }) {
			return
		}
		c, err := Inspect(token)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
		v := s.verifier()
		for _, o := range samples {
			if got, err := v.Verify(token, o.holder); err == nil {
				t.Errorf("accepted: %+v, %+v", got, c)
			}
		}
	})
}

// What is decoded is encoded to the same bytes: no two tokens mean the same block.
func FuzzBlocks(f *testing.F) {
	s := newSiteIn(f, fixed())
	for _, o := range sampleTokens(f, s) {
		blocks, _ := split(o.token)
		for _, b := range blocks {
			f.Add(b.body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if b, err := decodeFirst(body); err == nil && !bytes.Equal(b.encode(), body) {
			t.Errorf("first block: %x", body)
		}
		if b, err := decodeFurther(body); err == nil && !bytes.Equal(b.encode(), body) {
			t.Errorf("further block: %x", body)
		}
	})
}

func TestTheCacheIsBounded(t *testing.T) {
	v := newSite(t).verifier()
	for i := range uint32(3 * maxRemembered) {
		v.remember([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, Claims{})
		if n := len(v.new) + len(v.old); n > 2*maxRemembered {
			t.Fatalf("%d remembered", n)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := newSite(b)
	user, apc := s.identity(ca.KindUser, "u"), s.identity(ca.KindAPC, "a")
	one := s.token(user)
	two := narrow(b, one, user, Narrowing{Delegate: apc.Public()})
	for _, bc := range []struct {
		name   string
		token  []byte
		holder ed25519.PublicKey
	}{{"blocks=1", one, user.Public()}, {"blocks=2", two, apc.Public()}} {
		b.Run(bc.name+"/cached", func(b *testing.B) {
			b.ReportAllocs()
			v := s.verifier()
			for b.Loop() {
				if _, err := v.Verify(bc.token, bc.holder); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bc.name+"/new", func(b *testing.B) {
			v := s.verifier()
			for b.Loop() {
				if _, err := v.verifyChain(bc.token, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
