package catalogue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"ninja/connectors"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/golden"
	"ninja/operators/speech"
)

// spokenNumbers and streets are what the addresses of BenchmarkVoice are made of; the grammar knows them all.
var (
	spokenNumbers = strings.Fields("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
	streets       = []string{"main street", "chapel street", "elkton road", "college avenue", "delaware avenue", "park place", "king street", "market street",
		"pennsylvania avenue", "union street", "maple lane", "oak drive", "lincoln highway", "harmony road", "walnut street", "cherry lane"}
)

func addressGrammar() string {
	return "#JSGF V1.0;\ngrammar a;\npublic <a> = <n> <n> <s>;\n<n> = " + strings.Join(spokenNumbers, " | ") + ";\n<s> = " + strings.Join(streets, " | ") + ";"
}

// BenchmarkVoice measures the quality of each English voice as what it is for: how much of what it says is understood.
// Addresses are spoken, resampled to 16 kHz where they are not, and recognised against a grammar of 5,776; quality is the
// share of words that were heard right, exact the share of addresses. Beside it stands what the description declares.
func BenchmarkVoice(b *testing.B) {
	var r operators.Registry
	RegisterWith(&r, speech.Programs{Recogniser: recogniserPath})
	byName := make(map[string]operators.Spec)
	for _, s := range Specs() {
		byName[s.Name] = s
	}
	for _, s := range Specs() {
		if !strings.HasPrefix(s.Program, "speak-") || s.In.Param("lang") != "en" {
			continue
		}
		b.Run(s.Name, func(b *testing.B) {
			names := []string{s.Name, "resample", "recognise"}
			if s.Out.Param("rate") == "16000" {
				names = []string{s.Name, "recognise"}
			}
			chain := []operators.Link{{Name: "text", Out: operators.MustPattern("text/plain;lang=en")}}
			for _, n := range names {
				x := byName[n]
				chain = append(chain, x.Link())
			}
			hops, err := operators.Unify(append(chain, operators.Link{Name: "map", In: operators.MustPattern("text/plain;about=address;lang=en;grammar=" + wants["grammar"])}))
			if err != nil {
				b.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(7, 7))
			quality, exact, n := 0.0, 0, 0
			for b.Loop() {
				want := fmt.Sprintf("%s %s %s", spokenNumbers[rng.IntN(19)], spokenNumbers[rng.IntN(19)], streets[rng.IntN(len(streets))])
				adus := []connectors.ADU{{Payload: []byte(want + "."), Mark: connectors.EndOfDocument}}
				for i, name := range names {
					adus = through(b, &r, byName[name], hops[i], hops[i+1], adus)
				}
				var heard []byte
				for _, a := range adus {
					heard = append(append(heard, a.Payload...), ' ')
				}
				n++
				quality += golden.Words([][]byte{[]byte(want)}, [][]byte{heard})
				if strings.TrimSpace(string(heard)) == want {
					exact++
				}
			}
			b.ReportMetric(quality/float64(n), "quality")
			b.ReportMetric(float64(exact)/float64(n), "exact")
			b.ReportMetric(s.Cost.Quality, "declared")
		})
	}
}

// through runs one operator to the end of its input.
func through(b *testing.B, r *operators.Registry, s operators.Spec, in, out connectors.Type, adus []connectors.ADU) []connectors.ADU {
	args := make(map[string]string)
	for _, a := range s.Args {
		args[a.Name] = a.Value
	}
	op, err := r.Make(b.Context(), s.Program, operators.Env{World: world.Real(), In: in, Out: out, Args: args,
		Data: func(context.Context, string) ([]byte, error) { return []byte(addressGrammar()), nil }})
	if err != nil {
		b.Fatal(err)
	}
	h := &hop{in: adus, events: make(chan connectors.Event)}
	if err := op.Run(b.Context(), h, h); err != nil {
		b.Fatalf("%s: %v", s.Name, err)
	}
	return h.out
}
