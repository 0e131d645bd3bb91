package directions

import (
	"math/rand/v2"

	"ninja/examples/directions/spoken"
)

// Sample is an address of the map and one way to say it.
type Sample struct {
	Address Address
	// Text is how it is spoken, in the words of the grammar.
	Text string
}

// Sample draws n addresses, each once, the same for the same seed: any that can be found without naming the city, said
// in a form that is drawn too. It returns fewer when the map has no more.
func (g *Gazetteer) Sample(seed uint64, n int) []Sample {
	r := rand.New(rand.NewPCG(seed, 0))
	var drawn []Sample
	for _, i := range r.Perm(len(g.all)) {
		if len(drawn) == n {
			break
		}
		a := g.all[i]
		if len(g.Find(a.Number, a.Street.Key(), "")) != 1 {
			continue
		}
		text := spoken.SpeakNumber(a.Number, r) + " " + a.Street.Spoken
		if g.means(text, &a) {
			drawn = append(drawn, Sample{a, text})
		}
	}
	return drawn
}

// means reports whether the words lead to the address and not to another that they may also mean.
func (g *Gazetteer) means(text string, a *Address) bool {
	for _, r := range g.Read(text) {
		for _, n := range r.Numbers {
			if found := g.Find(n, r.Street.Key(), r.City.Key()); len(found) > 0 {
				return n == a.Number && r.Street.Key() == a.Street.Key()
			}
		}
	}
	return false
}
