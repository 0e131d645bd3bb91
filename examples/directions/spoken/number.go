// Package spoken is how people say house numbers and street names in English: every form a number is said in, read
// and written; written names turned into the words of a pronouncing dictionary, always the same way; and the rules of
// a speech grammar (JSGF) that accept exactly the numbers that ParseNumber reads.
package spoken

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// MaxNumber is the largest house number that is spoken of.
const MaxNumber = 99999

// maxWords is the longest way to say it: "ninety nine thousand nine hundred and ninety nine".
const maxWords = 8

var (
	units = []string{"", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
	teens = []string{"ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"}
	tens  = []string{"", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"}
)

// An atom of a form stands for a few words and says how they change the number read so far:
//
//	D  one to nine: a digit more          Z  oh, zero: a zero more        N  either
//	W  ten to ninety nine: two digits     H  hundred: times 100           K  thousand: times 1000
//	u  one to nine, perhaps after "and": added                            w  ten to ninety nine likewise
//	b  "one hundred" to "nine hundred": added
//
// forms lists how numbers are said, the natural ones first: of two readings of the same words the first is meant.
var forms = []string{
	"D", "W",
	"DW", "DZD", "DH", "DHu", "DHw",
	"WW", "WZD", "WH", "WHu", "WHw",
	"DK", "DKu", "DKw", "DKb", "DKbu", "DKbw",
	"DWW", "DWZD", "WDW", "WDZD", "WDH",
	"WK", "WKu", "WKw", "WKb", "WKbu", "WKbw",
	"DN", "DNN", "DNNN", "DNNNN",
}

// ParseNumber reads the words of a number in any form, or one word of digits, and returns every number they may mean,
// the likeliest first: "twenty two twelve" is 2212, or 20212 for one who pauses elsewhere. Nothing means that the words
// are no number from 1 to MaxNumber.
func ParseNumber(words []string) []int {
	if len(words) == 0 || len(words) > maxWords {
		return nil
	}
	if len(words) == 1 && strings.Trim(words[0], "0123456789") == "" {
		if n, err := strconv.Atoi(words[0]); err == nil && n >= 1 && n <= MaxNumber {
			return []int{n}
		}
		return nil
	}
	var found []int
	for _, form := range forms {
		read(form, words, 0, func(n int) {
			if n <= MaxNumber && !slices.Contains(found, n) {
				found = append(found, n)
			}
		})
	}
	return found
}

// read matches the words against the rest of a form, n being the number so far, and reports every way that fits.
func read(form string, words []string, n int, report func(int)) {
	if form == "" {
		if len(words) == 0 {
			report(n)
		}
		return
	}
	atom, form := form[0], form[1:]
	if (atom == 'u' || atom == 'w') && len(words) > 0 && words[0] == "and" {
		words = words[1:]
	}
	if len(words) == 0 {
		return
	}
	unit := slices.Index(units[1:], words[0]) + 1
	zero := words[0] == "oh" || words[0] == "zero"
	switch {
	case (atom == 'D' || atom == 'N') && unit > 0:
		read(form, words[1:], 10*n+unit, report)
	case (atom == 'Z' || atom == 'N') && zero:
		read(form, words[1:], 10*n, report)
	case atom == 'H' && words[0] == "hundred":
		read(form, words[1:], 100*n, report)
	case atom == 'K' && words[0] == "thousand":
		read(form, words[1:], 1000*n, report)
	case atom == 'u' && unit > 0:
		read(form, words[1:], n+unit, report)
	case atom == 'b' && unit > 0 && len(words) > 1 && words[1] == "hundred":
		read(form, words[2:], n+100*unit, report)
	case atom == 'W' || atom == 'w':
		for _, two := range twoDigits(words) {
			next := n + two.value
			if atom == 'W' {
				next = 100*n + two.value
			}
			read(form, words[two.words:], next, report)
		}
	}
}

type twoDigit struct{ value, words int }

// twoDigits reads ten to ninety nine at the beginning of words; "twenty two" may be 22, or 20 before something else.
func twoDigits(words []string) []twoDigit {
	if i := slices.Index(teens, words[0]); i >= 0 {
		return []twoDigit{{10 + i, 1}}
	}
	i := slices.Index(tens, words[0])
	if i < 2 {
		return nil
	}
	if len(words) > 1 {
		if u := slices.Index(units[1:], words[1]); u >= 0 {
			return []twoDigit{{10*i + u + 1, 2}, {10 * i, 1}}
		}
	}
	return []twoDigit{{10 * i, 1}}
}

// IsNumberWord reports whether a word can stand in a number.
func IsNumberWord(w string) bool {
	switch w {
	case "and", "oh", "zero", "hundred", "thousand":
		return true
	}
	return w != "" && (slices.Contains(units, w) || slices.Contains(teens, w) || slices.Contains(tens, w) ||
		strings.Trim(w, "0123456789") == "")
}

// SayNumber is how a number is said back so that it can be checked by ear: 615 is "six fifteen", 605 "six oh five",
// 2212 "twenty two twelve", 12345 digit by digit.
func SayNumber(n int) string {
	switch {
	case n < 1 || n > MaxNumber:
		return strconv.Itoa(n)
	case n < 100:
		return two(n)
	case n < 10000 && n%1000 == 0:
		return units[n/1000] + " thousand"
	case n < 10000 && n%100 == 0:
		return two(n/100) + " hundred"
	case n < 10000 && n%100 < 10:
		return two(n/100) + " oh " + units[n%10]
	case n < 10000:
		return two(n/100) + " " + two(n%100)
	}
	return SayDigits(n)
}

// SayDigits says a number digit by digit.
func SayDigits(n int) string {
	var words []string
	for _, d := range strconv.Itoa(n) {
		words = append(words, digit(int(d-'0')))
	}
	return strings.Join(words, " ")
}

func digit(d int) string {
	if d == 0 {
		return "oh"
	}
	return units[d]
}

// two says 1 to 99.
func two(n int) string {
	switch {
	case n < 10:
		return units[n]
	case n < 20:
		return teens[n-10]
	}
	return strings.TrimSpace(tens[n/10] + " " + units[n%10])
}

// SpeakNumber says a number in one of the forms people use, chosen by r. ParseNumber finds the number among its
// readings.
func SpeakNumber(n int, r *rand.Rand) string {
	said := []string{SayNumber(n), cardinal(n, false)}
	if n >= 100 {
		said = append(said, SayDigits(n), cardinal(n, true))
	}
	return said[r.IntN(len(said))]
}

// Cardinal says a quantity from 1 to MaxNumber: "four hundred", "one hundred fifty".
func Cardinal(n int) string { return cardinal(n, false) }

// cardinal says a number with hundreds and thousands.
func cardinal(n int, and bool) string {
	var words []string
	if n >= 1000 {
		words = append(words, two(n/1000), "thousand")
	}
	if h := n / 100 % 10; h > 0 {
		words = append(words, units[h], "hundred")
	}
	if n%100 > 0 {
		if and && len(words) > 0 {
			words = append(words, "and")
		}
		words = append(words, two(n%100))
	}
	return strings.Join(words, " ")
}

// NumberRules are the JSGF rules of <number>, which accepts what ParseNumber reads, single words of digits aside.
func NumberRules() string {
	var b strings.Builder
	rule := func(name string, of ...string) { b.WriteString("<" + name + "> = " + strings.Join(of, " | ") + ";\n") }
	rule("unit", units[1:]...)
	rule("zero", "oh", "zero")
	rule("two", "<teen>", "<tens> [<unit>]")
	rule("teen", teens...)
	rule("tens", tens[2:]...)
	atoms := map[rune]string{'D': "<unit>", 'Z': "<zero>", 'N': "(<zero> | <unit>)", 'W': "<two>", 'H': "hundred",
		'K': "thousand", 'u': "[and] <unit>", 'w': "[and] <two>", 'b': "<unit> hundred"}
	var all []string
	for _, form := range forms {
		var words []string
		for _, atom := range form {
			words = append(words, atoms[atom])
		}
		all = append(all, strings.Join(words, " "))
	}
	rule("number", all...)
	return b.String()
}
