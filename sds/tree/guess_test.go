package tree

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/sds/index"
	"ninja/sds/summary"
)

// setOf is what a parent has been told by a child.
func (p *plant) setOf(child string) []summary.Term {
	who, _ := p.node.neighbours("")
	for _, nb := range who {
		if nb.id.Name() == child {
			return nb.table.Set()
		}
	}
	return nil
}

// TestAStrangerSeesTokensAlone (threat 10): two servers show everyone the same, and one hides services under grants with
// the most obvious names. Their summaries differ by one token for each grant, however many services it opens, and
// nothing that can be guessed without the secret is in the one and not in the other: not the grants, and not what the
// hidden services say.
func TestAStrangerSeesTokensAlone(t *testing.T) {
	w := newWood(t)
	owner := w.identity(ca.KindBase, "b")
	root := w.grow("root")
	grants := []capability.Who{"user:alice", "user:admin", "group:staff", "group:finance", capability.Who(owner.ID())}
	const open = 30
	for _, name := range []string{"plain", "hiding"} {
		s := w.grow(name, "h=root")
		for i := range open {
			s.publish(owner, fmt.Sprint("s", i), 1, printer(fmt.Sprint("kind", i%7), i))
		}
		if name == "hiding" {
			for i := range 20 {
				s.publish(owner, fmt.Sprint("hidden", i), 1, printer("vault", i), grants[i%4])
			}
		}
		root.knows(name, open)
	}
	secret := []byte("of the domain")
	var want []summary.Term
	for _, g := range grants {
		want = append(want, summary.Token(secret, string(g), time.Now()))
	}
	slices.Sort(want)
	var added, removed []summary.Term
	eventually(t, "the tokens are told", func() bool {
		added, removed = summary.Differences(root.setOf("plain"), root.setOf("hiding"))
		return len(added) >= len(want)
	})
	if !slices.Equal(added, want) || len(removed) != 0 {
		t.Fatalf("services hidden under %d grants add %d terms and take away %d", len(grants), len(added), len(removed))
	}
	guesses, gained := 0, 0
	guess := func(terms ...summary.Term) {
		for _, x := range terms {
			guesses++
			if slices.Contains(added, x) {
				gained++
			}
		}
	}
	own := []byte("a secret of the stranger's own domain")
	for _, g := range append(grants, "user:bob", "group:ops", "vault") {
		for _, key := range [][]byte{nil, own, []byte("test"), []byte(g), make([]byte, 32)} {
			for day := range 3 {
				guess(summary.Token(key, string(g), time.Now().Add(time.Duration(day-1)*summary.TokenLife)))
			}
		}
	}
	for i := range 20 { // what the hidden services say, and whose they are, under the plan that holds
		d := sampleDescription(t, printer("vault", i))
		plan := summary.Plan{Pairs: []summary.Key{summary.KeyOf(index.Text, "@kind"), summary.KeyOf(index.Numeric, "speed")}}
		slices.Sort(plan.Pairs)
		plan.Terms(summary.Describe(string(owner.ID()), d), func(x summary.Term) { guess(x) })
	}
	t.Logf("PROVE services hidden under %d grants add %d terms to what a stranger sees; of %d guesses %d are among them", len(grants), len(added), guesses, gained)
	if gained > 0 {
		t.Errorf("%d guesses are right", gained)
	}
}
