package plan

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A catalogue to which things were put, one after another, plans as one that was made of all of them at once.
func TestAmendedEqualsWhole(t *testing.T) {
	amended := 0
	for seed := range uint64(60 * scale()) {
		r := rand.New(rand.NewPCG(seed, 7))
		whole, q := randomInstance(r)
		other, _ := randomInstance(rand.New(rand.NewPCG(seed, 8)))
		first := whole
		first.Operators, first.Nodes = slices.Clone(whole.Operators), slices.Clone(whole.Nodes)
		var changes []Change
		for i := len(first.Operators) - 1; i >= 0; i-- {
			switch o := first.Operators[i]; r.IntN(3) {
			case 0: // put later
				first.Operators = slices.Delete(first.Operators, i, i+1)
				changes = append(changes, Change{Operators: []Operator{o}})
			case 1: // was another one before
				was := other.Operators[r.IntN(len(other.Operators))]
				was.Name, was.Places, was.Data = o.Name, o.Places[:1+r.IntN(len(o.Places))], nil
				first.Operators[i] = was
				changes = append(changes, Change{Operators: []Operator{o}})
			}
		}
		c, err := NewCatalogue(first)
		if err != nil {
			t.Fatal(err)
		}
		if n := first.Nodes[r.IntN(len(first.Nodes))]; true {
			changes = append(changes, Change{Nodes: []Node{n, {ID: "spiffe://d1/proxy/more", Region: n.Region}}})
			whole.Nodes = append(slices.Clone(whole.Nodes), changes[len(changes)-1].Nodes[1])
		}
		for _, ch := range changes {
			before, beforeErr := c.Plan(context.Background(), q)
			next, err := c.With(ch)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if c.amendable(ch) {
				amended++
			}
			again, againErr := c.Plan(context.Background(), q)
			if (beforeErr == nil) != (againErr == nil) || beforeErr == nil && before.Text() != again.Text() {
				t.Fatalf("seed %d: a change has changed what it was made of", seed)
			}
			c = next
		}
		w, err := NewCatalogue(whole)
		if err != nil {
			t.Fatal(err)
		}
		got, gotErr := c.Plan(context.Background(), q)
		want, wantErr := w.Plan(context.Background(), q)
		var no, yes *Refusal
		switch {
		case (gotErr == nil) != (wantErr == nil):
			t.Errorf("seed %d: %v, whole %v", seed, gotErr, wantErr)
		case gotErr == nil && math.Abs(got.Cost-want.Cost) > 1e-9:
			t.Errorf("seed %d: cost %v, whole %v", seed, got.Cost, want.Cost)
		case errors.As(gotErr, &no) && errors.As(wantErr, &yes) && no.Reason != yes.Reason:
			t.Errorf("seed %d: %v, whole %v", seed, no, yes)
		}
	}
	if amended < 60 {
		t.Errorf("%d changes were amendments", amended)
	}
}
