// Package golden finds out whether an operator does what its types say, and what it costs.
//
// Types are claims: nothing in "text/plain;lang=en to text/plain;lang=de" keeps a publisher from an operator that always
// says the same. So whoever owns a pair of types, that is who defined what they mean, keeps samples of it: inputs with the
// outputs that are wanted. They are the owner's alone, are drawn at random, and look like any other traffic. An operator
// is examined when it is registered (Check), and again, at times that nobody can foresee, while it is in service
// (Inspector). Where there are no samples, operators of the same pair are compared with each other (Compare).
package golden

import (
	"fmt"
	"slices"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
)

// Sample is an input and the output that is wanted for it, each as the payloads of ADUs.
type Sample struct {
	In, Want [][]byte
}

// Text is a sample of one document each.
func Text(in, want string) Sample { return Sample{[][]byte{[]byte(in)}, [][]byte{[]byte(want)}} }

// Set is all that the owner of a pair of types has to examine operators with. It is never published.
type Set struct {
	// In and Out are ground types of the pair.
	In, Out connectors.Type
	// Judge says how much of the wanted output is in the output.
	Judge Judge
	// Samples are drawn without repetition until all have been used.
	Samples []Sample
	// Fresh makes a sample that nobody has seen before; nil when only Samples are there. Half of what is drawn is fresh.
	Fresh func(w world.World) Sample
	// Stream says that a sample is a stretch of a stream, such as sound: each gets an operator of its own, and the output
	// is what was written when the input has ended. Else every sample is one request, one ADU, and one operator gets all.
	Stream bool

	left []int // indices of samples that were not drawn yet
}

// Draw takes n samples at random, fewer when there are not that many. Not for many goroutines.
func (s *Set) Draw(w world.World, n int) []Sample {
	var drawn []Sample
	for len(drawn) < n {
		if s.Fresh != nil && (len(drawn)%2 == 0 || len(s.Samples) == 0) {
			drawn = append(drawn, s.Fresh(w))
			continue
		}
		if len(s.left) == 0 {
			if len(s.Samples) == 0 || s.Fresh == nil && len(drawn) >= len(s.Samples) {
				break
			}
			for i := range s.Samples {
				s.left = append(s.left, i)
			}
		}
		i := int(w.Uint64() % uint64(len(s.left)))
		drawn = append(drawn, s.Samples[s.left[i]])
		s.left = slices.Delete(s.left, i, i+1)
	}
	// Fresh and kept ones in no order that tells them apart.
	for i := len(drawn) - 1; i > 0; i-- {
		j := int(w.Uint64() % uint64(i+1))
		drawn[i], drawn[j] = drawn[j], drawn[i]
	}
	return drawn
}

// Fits says why the description does not claim the set's pair of types; nil when it does.
func (s *Set) Fits(spec *operators.Spec) error {
	_, err := operators.Unify([]operators.Link{
		{Name: "samples", Out: operators.PatternOf(s.In)}, spec.Link(), {Name: "judge", In: operators.PatternOf(s.Out)},
	})
	if err != nil {
		return fmt.Errorf("the operator is not one from %v to %v: %w", s.In, s.Out, err)
	}
	return nil
}
