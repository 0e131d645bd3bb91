package operators

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Extending an open type member by member gives Unify's verdict on the whole chain, for every chain.
func TestOpenAgreesWithUnify(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	param := func() string {
		one := func(name string) string {
			v := []string{"$a", "$b", "$a:4..20", "8", "16", "8|16", "4..12", "*", "$b:8|32"}
			return ";" + name + "=" + v[r.IntN(len(v))]
		}
		s := ""
		for _, name := range []string{"p", "q"} {
			if r.IntN(3) > 0 {
				s += one(name)
			}
		}
		return s
	}
	fits := 0
	for range 20000 {
		n := 2 + r.IntN(4)
		chain := make([]Link, n)
		for i := range chain {
			chain[i].Name = fmt.Sprint("m", i)
			if i > 0 {
				chain[i].In = MustPattern("a/x" + param())
			}
			if i+1 < n {
				chain[i].Out = MustPattern("a/x" + param())
			}
		}
		_, err := Unify(chain)
		o, openErr := OpenOf(chain[0].Name, chain[0].Out)
		for i := 1; i < n && openErr == nil; i++ {
			o, openErr = o.Then(chain[i-1].Name, chain[i])
		}
		if (err == nil) != (openErr == nil) {
			t.Fatalf("%v: Unify says %v, Open says %v", chain, err, openErr)
		}
		if err == nil {
			fits++
		}
	}
	if fits < 1000 {
		t.Errorf("only %d chains fit: the test says little", fits)
	}
}
