package spoken_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ninja/examples/directions/spoken"
	"ninja/examples/directions/spoken/jsgftest"
)

func TestNumberForms(t *testing.T) {
	for said, want := range map[string]int{
		"six fifteen": 615, "six hundred fifteen": 615, "six hundred and fifteen": 615, "six one five": 615, "six oh five": 605,
		"six zero five": 605, "fifteen hundred": 1500, "fifteen hundred and two": 1502, "twenty two twelve": 2212,
		"one thousand two hundred": 1200, "one thousand two": 1002, "twelve thousand five": 12005, "ten oh five": 1005,
		"nineteen two sixty six": 19266, "one ninety two sixty six": 19266, "nineteen two oh five": 19205, "two": 2, "ninety": 90,
		"forty one": 41, "ninety nine thousand nine hundred and ninety nine": 99999, "nine nine nine nine": 9999, "615": 615,
		"three nine five three three": 39533, "three oh oh": 300, "thirty three oh three": 3303,
	} {
		if got := spoken.ParseNumber(strings.Fields(said)); len(got) == 0 || got[0] != want {
			t.Errorf("%q is read as %v, want %d", said, got, want)
		}
	}
	for _, said := range []string{"", "and", "hundred", "oh five", "zero", "six and", "six hundred hundred", "main", "100000", "0", "one thousand thousand"} {
		if got := spoken.ParseNumber(strings.Fields(said)); got != nil {
			t.Errorf("%q is read as %v, want nothing", said, got)
		}
	}
}

func TestEveryNumberIsReadBack(t *testing.T) {
	for n := 1; n <= spoken.MaxNumber; n++ {
		if got := spoken.ParseNumber(strings.Fields(spoken.SayNumber(n))); len(got) == 0 || got[0] != n {
			t.Fatalf("%d is said %q and read as %v", n, spoken.SayNumber(n), got)
		}
	}
}

// Whatever form is spoken, the number is among its readings, and the grammar accepts it.
func TestSpokenNumbersAreReadAndAccepted(t *testing.T) {
	g := jsgftest.Parse("grammar n;\n" + spoken.NumberRules())
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, spoken.MaxNumber).Draw(t, "number")
		said := spoken.SpeakNumber(n, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))
		if got := spoken.ParseNumber(strings.Fields(said)); !slices.Contains(got, n) {
			t.Fatalf("%d is said %q and read as %v", n, said, got)
		}
		if !g.Rule("<number>", said) {
			t.Fatalf("the grammar refuses %q", said)
		}
	})
}

// The grammar accepts exactly what is read.
func TestGrammarIsTheReader(t *testing.T) {
	g := jsgftest.Parse("grammar n;\n" + spoken.NumberRules())
	words := []string{"one", "two", "nine", "oh", "zero", "ten", "fifteen", "twenty", "ninety", "hundred", "thousand", "and"}
	rapid.Check(t, func(t *rapid.T) {
		said := rapid.SliceOfN(rapid.SampledFrom(words), 1, 8).Draw(t, "words")
		if read, accepted := spoken.ParseNumber(said) != nil, g.Rule("<number>", strings.Join(said, " ")); read != accepted {
			t.Fatalf("%q: read %v, accepted %v", said, read, accepted)
		}
	})
}

func TestNames(t *testing.T) {
	for written, want := range map[string]spoken.Name{
		"S. Main St":                    {Written: "South Main Street", Spoken: "south main street"},
		"South Main Street":             {Written: "South Main Street", Spoken: "south main street"},
		"E Cleveland Ave":               {Written: "East Cleveland Avenue", Spoken: "east cleveland avenue"},
		"West 11th Street":              {Written: "West 11th Street", Spoken: "west eleventh street"},
		"42nd St":                       {Written: "42nd Street", Spoken: "forty second street"},
		"St. Georges":                   {Written: "Saint Georges", Spoken: "saint georges"},
		"Kirkwood-St. Georges Road":     {Written: "Kirkwood Saint Georges Road", Spoken: "kirkwood saint georges road"},
		"John F Kennedy Hwy":            {Written: "John F Kennedy Highway", Spoken: "john f kennedy highway"},
		"Governor's Square":             {Written: "Governor's Square", Spoken: "governor's square"},
		"DuPont Highway":                {Written: "DuPont Highway", Spoken: "dupont highway"},
		"HOLLY WOOD LANE":               {Written: "Holly Wood Lane", Spoken: "holly wood lane"},
		"S Chapel St #107":              {Written: "South Chapel Street", Spoken: "south chapel street"},
		"West Bluewater Run Unit 3":     {Written: "West Bluewater Run", Spoken: "west bluewater run"},
		"Route 40":                      {Written: "Route 40", Spoken: "route forty"},
		"Wilmington, DE":                {Written: "Wilmington", Spoken: "wilmington"},
		"Café Röad":                     {Written: "Cafe Road", Spoken: "cafe road"},
		"Main St N":                     {Written: "Main Street North", Spoken: "main street north"},
		"北京路":                           {},
		"1000000th Street":              {},
		"Martin Luther King Jr Blvd NE": {Written: "Martin Luther King Junior Boulevard Northeast", Spoken: "martin luther king junior boulevard northeast"},
	} {
		if got := spoken.ParseName(written); got != want {
			t.Errorf("%q becomes %q, want %q", written, got, want)
		}
	}
}

// A name that was read once is not changed by reading it again, and its words are plain.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"S. Main St", "Kirkwood-St. Georges Road", "O'Neil's 3rd Ave (rear)", "#1", "''"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := spoken.ParseName(s)
		if strings.Trim(n.Spoken, "abcdefghijklmnopqrstuvwxyz' ") != "" || n.Spoken != strings.Join(strings.Fields(n.Spoken), " ") {
			t.Errorf("%q is spoken %q", s, n.Spoken)
		}
		if again := spoken.ParseName(n.Written); again.Key() != n.Key() {
			t.Errorf("%q becomes %q and then %q", s, n, again)
		}
	})
}
