package summary

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"ninja/sds/check"
	"ninja/sds/index"
)

// The names that a stranger tries first, and under which things are hidden here: there is nothing to guess about them.
var (
	people = []string{"alice", "bob", "carol", "dave", "admin", "root", "operator", "test", "guest", "backup", "john", "maria"}
	groups = []string{"staff", "admins", "finance", "security", "doctors", "guests", "ops", "board"}
	things = []string{"vault", "camera", "alarm", "safe", "payroll", "door", "printer"}
)

// grantNames are what capability managers call grants: users by name or identity, and groups.
func grantNames() (out []string) {
	for _, p := range people {
		out = append(out, "user:"+p, "spiffe://t/user/"+p)
	}
	for _, g := range groups {
		out = append(out, "group:"+g)
	}
	return out
}

// stranger guesses: it knows all about how summaries are made, which grants there are and what hidden services say, and
// lacks the secret alone. It is another domain's capability manager too, with a secret of its own.
type stranger struct {
	own    []byte
	grants []string
	now    time.Time
}

// guess is the i-th: each kind of guess goes through all names, and then on with numbers behind them.
func (s *stranger) guess(i int) Term {
	const kinds = 8
	kind, i := i%kinds, i/kinds
	grant, round := s.grants[i%len(s.grants)], i/len(s.grants)
	at := s.now.Add(time.Duration(round%5-2) * TokenLife)
	number := func(name string) string {
		if round == 0 {
			return name
		}
		return name + strconv.Itoa(round)
	}
	switch kind {
	case 0: // under a poor secret
		poor := []string{"", "secret", "ninja", "t", "changeme", string(make([]byte, 32)), "ninja summary token 1"}
		return Token([]byte(number(poor[i%len(poor)])), grant, at)
	case 1: // under its own
		return Token(s.own, number(grant), at)
	case 2: // as a hash without any secret
		h := sha256.Sum256([]byte(number(grant)))
		return Term(binary.BigEndian.Uint64(h[:]) & termMask)
	case 3: // with the grant as the secret
		h := hmac.New(sha256.New, []byte(number(grant)))
		h.Write([]byte("ninja summary token 1\x00"))
		return Term(binary.BigEndian.Uint64(h.Sum(nil)) & termMask)
	case 4: // the grant as something that a service says
		return KeyOf(index.Text, []string{"@group", "@user", "@owner", "@acl"}[i%4]).text(number(grant))
	case 5: // what the hidden service says
		return KeyOf(index.Text, "@kind").text(number(things[i%len(things)]))
	case 6: // two things that it says together
		kind, floor := KeyOf(index.Text, "@kind"), KeyOf(index.Text, "@floor")
		return pair(kind.text(things[i%len(things)]), floor.text(strconv.Itoa(round)))
	default: // whose it is
		return KeyOf(index.Text, "owner").text("spiffe://t/user/" + number(people[i%len(people)]))
	}
}

// TestGuessesGainNothing (threat 10): a stranger sees the summary of a server and guesses what is hidden behind it. From
// the summary of a world where services are hidden under the most obvious names it learns less than a thousandth more than
// from that of a world without them; with the secret it would learn all.
func TestGuessesGainNothing(t *testing.T) {
	guesses := min(100_000*scale(), 1_000_000)
	r := rand.New(rand.NewPCG(11, 5))
	secret, own := make([]byte, 32), make([]byte, 32)
	for i := range secret {
		secret[i], own[i] = byte(r.Uint32()), byte(r.Uint32())
	}
	now := time.Unix(1_800_000_000, 0)
	var p Plan
	p.Pairs = samplePlan().Pairs
	var without, with Counting
	for i := range 2000 {
		d, err := check.Parse([]byte(document(r)))
		if err != nil {
			t.Fatal(err)
		}
		f := Describe("spiffe://t/user/"+strconv.Itoa(i%50), index.Pack(d))
		p.Terms(f, without.Add)
		p.Terms(f, with.Add)
	}
	grants := grantNames()
	for _, g := range grants {
		with.Add(Token(secret, g, now))
	}
	absent, present := tableOf(t, &without, p), tableOf(t, &with, p)
	s := &stranger{own: own, grants: grants, now: now}
	right, wrong := 0, 0 // guesses that hold of the one world and not of the other
	for i := range guesses {
		x := s.guess(i)
		switch in, out := present.has(x), absent.has(x); {
		case in && !out:
			right++
		case out && !in:
			wrong++
		}
	}
	gain := math.Abs(float64(right-wrong)) / float64(guesses)
	known := 0 // with the secret
	for _, g := range grants {
		if x := Token(secret, g, now); present.has(x) && !absent.has(x) {
			known++
		}
		holder := Ask(index.Need{Kind: index.Text, Tag: "@kind", Text: "vault"}, Tokens(secret, []string{g}, now)...)
		if !present.May(holder) || absent.May(holder) {
			t.Errorf("the holder of %s is not routed to what it opens", g)
		}
	}
	t.Logf("PROVE %d guesses at %d grants and what is hidden under them: %.5f %% gained (want under 0.1 %%); with the secret %d of %d",
		guesses, len(grants), 100*gain, known, len(grants))
	if gain >= 0.001 {
		t.Errorf("%d guesses gain %.4f", guesses, gain)
	}
	if known != len(grants) {
		t.Errorf("with the secret %d of %d grants are seen: the test tests little", known, len(grants))
	}
}

// TestHiddenWorldsLookAlike: what is hidden adds one term for each of its grants, whatever and however much it is, and by
// nothing but the secret can that term be told from those of services.
func TestHiddenWorldsLookAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	secret := []byte(fmt.Sprint(r.Uint64(), r.Uint64()))
	now := time.Unix(1_800_000_000, 0)
	bits := [TermBits]int{}
	const n = 20_000
	for i := range n {
		x := Token(secret, "user:"+strconv.Itoa(i), now)
		for b := range bits {
			bits[b] += int(x >> b & 1)
		}
	}
	for b, ones := range bits { // six sigma
		if off := math.Abs(float64(ones) - n/2); off > 6*math.Sqrt(n)/2 {
			t.Errorf("bit %d of tokens is 1 in %d of %d", b, ones, n)
		}
	}
	if a, b := Token(secret, "user:alice", now), Token(secret, "user:alice", now.Add(TokenLife)); a == b {
		t.Error("a token holds for longer than its life")
	}
}

// tableOf is what a parent makes of what was counted.
func tableOf(t testing.TB, c *Counting, p Plan) *Table {
	t.Helper()
	n, sum := c.Len(), c.Check()
	table, err := new(Table).Apply(&Message{Sequence: 1, Plan: p, Terms: n, Check: sum, Added: c.Set()})
	if err != nil {
		t.Fatal(err)
	}
	return table
}
