package spoken

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Name is a written name in two forms.
type Name struct {
	// Written is the name with its abbreviations written out, as a person would put it on a sign: "North 4th Street".
	Written string
	// Spoken is how it is said, in lower-case words of letters and apostrophes: "north fourth street".
	Spoken string
}

// Key is what two spellings of one name have in common.
func (n Name) Key() string { return Key(n.Spoken) }

// Key is the form in which spoken words are compared: without apostrophes, one space between words.
func Key(spoken string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(strings.ToLower(spoken), "'", "")), " ")
}

// short are abbreviations of street names wherever they stand.
var short = map[string]string{
	"ave": "avenue", "av": "avenue", "blvd": "boulevard", "cir": "circle", "ct": "court", "ctr": "center", "dr": "drive",
	"expy": "expressway", "ext": "extension", "hwy": "highway", "ln": "lane", "pkwy": "parkway", "pky": "parkway",
	"pl": "place", "plz": "plaza", "pt": "point", "rd": "road", "rte": "route", "rt": "route", "sq": "square", "st": "street",
	"ter": "terrace", "terr": "terrace", "tpke": "turnpike", "trl": "trail", "xing": "crossing", "ft": "fort", "mt": "mount",
	"jr": "junior", "sr": "senior", "rev": "reverend", "hts": "heights", "twp": "township", "brg": "bridge", "ne": "northeast",
	"nw": "northwest", "se": "southeast", "sw": "southwest", "co": "county", "fwy": "freeway", "mtn": "mountain",
}

// leading are the abbreviations that may begin a name; others that do are part of it.
var leading = []string{"ne", "nw", "se", "sw", "mt", "ft", "rt", "rte"}

// compass are the single letters that are directions at the beginning or the end of a name, and initials elsewhere.
var compass = map[string]string{"n": "north", "s": "south", "e": "east", "w": "west"}

// WithoutCompass is a spoken name without a direction at its beginning or end.
func WithoutCompass(s string) string {
	words := strings.Fields(s)
	direction := func(w string) bool { return w == "north" || w == "south" || w == "east" || w == "west" }
	if n := len(words); n > 1 && direction(words[0]) {
		words = words[1:]
	} else if n > 1 && direction(words[n-1]) {
		words = words[:n-1]
	}
	return strings.Join(words, " ")
}

// kinds are the words that streets end with: what stands after one is a direction or something that is not the name.
var kinds = []string{"street", "avenue", "road", "drive", "lane", "court", "boulevard", "highway", "parkway", "trail",
	"place", "square", "circle", "terrace", "way", "pike", "turnpike", "plaza", "run"}

// IsStreetKind reports whether w is a word that street names end with.
func IsStreetKind(w string) bool { return slices.Contains(kinds, w) }

// ParseName turns a written name into its two forms. The same name written in two ways ("S. Main St", "South Main
// Street") gives the same words; a name that is clean already is kept. Units within a building ("Unit 3", "#107"), and
// what stands after a comma or in brackets, are dropped. The zero Name means that nothing speakable is left.
func ParseName(written string) Name {
	words := splitName(written)
	var shown, said []string
	for i, w := range words {
		lower := strings.ToLower(w)
		full := expand(words, i, lower)
		switch {
		case full != lower:
			shown, said = append(shown, title(full)), append(said, full)
		case w[0] >= '0' && w[0] <= '9':
			spoken, ok := sayNumeral(lower)
			if !ok {
				return Name{}
			}
			shown, said = append(shown, lower), append(said, spoken)
		default:
			shown, said = append(shown, recase(w)), append(said, lower)
		}
	}
	return Name{strings.Join(shown, " "), strings.Join(said, " ")}
}

// splitName cuts a name into words of letters, digits and apostrophes.
func splitName(written string) []string {
	if i := strings.IndexAny(written, ",;#"); i >= 0 {
		written = written[:i]
	}
	var b strings.Builder
	depth, before := 0, rune(0)
	for _, r := range written {
		if r >= '0' && r <= '9' && (unicode.IsLetter(before) || strings.ContainsRune("'’`", before)) {
			b.WriteByte(' ') // I95
		}
		before = r
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth = max(0, depth-1)
		case depth > 0:
		case r == '&':
			b.WriteString(" and ")
		case r == '’' || r == '\'' || r == '`':
			b.WriteByte('\'')
		case r == '.' && strings.HasSuffix(b.String(), "St"): // a saint, or a street
			b.WriteByte(' ')
		case r == '.':
		default:
			b.WriteString(fold(r))
		}
	}
	var words []string
	for _, w := range strings.Fields(b.String()) {
		w = strings.Trim(w, "'")
		if len(words) > 0 && isUnit(w) {
			break
		}
		if w != "" {
			words = append(words, w)
		}
	}
	return words
}

func isUnit(w string) bool {
	switch strings.ToLower(w) {
	case "unit", "suite", "ste", "apt", "apartment", "lot":
		return true
	}
	return false
}

// fold turns a letter into ASCII; what is no letter or digit becomes a space.
func fold(r rune) string {
	if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		return string(r)
	}
	const from, to = "àáâãäåçèéêëìíîïñòóôõöøùúûüýÿÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝ", "aaaaaaceeeeiiiinoooooouuuuyyAAAAAACEEEEIIIINOOOOOOUUUUY"
	if i := slices.Index([]rune(from), r); i >= 0 {
		return to[i : i+1]
	}
	switch r {
	case 'ß':
		return "ss"
	case 'æ', 'Æ':
		return "ae"
	}
	return " "
}

// expand writes an abbreviation out; lower is the word in lower case.
func expand(words []string, i int, lower string) string {
	last := i == len(words)-1
	if full, ok := compass[lower]; ok && len(words) > 1 && (i == 0 || last || (i == 1 && isCompass(words[0]))) {
		return full
	}
	if i == 0 && lower == "dr" && !last {
		return "doctor"
	}
	if lower == "st" && !last && !afterName(words, i) {
		return "saint"
	}
	if full, ok := short[lower]; ok && (i > 0 || slices.Contains(leading, lower)) {
		return full
	}
	return lower
}

func isCompass(w string) bool {
	_, ok := compass[strings.ToLower(w)]
	return ok
}

// afterName reports whether the "St" at i follows a name and so is a street: "Main St N", but "North St Johns Road".
func afterName(words []string, i int) bool {
	if i == 0 {
		return false
	}
	for _, w := range words[i+1:] { // a street's kind later on: the St before it is a saint
		w = strings.ToLower(w)
		if IsStreetKind(w) || (short[w] != "" && IsStreetKind(short[w]) && w != "st") {
			return false
		}
	}
	return true
}

// recase keeps a name's own capitals ("DuPont") and mends names in capitals or in none.
func recase(w string) string {
	if len(w) > 2 && w == strings.ToUpper(w) || w == strings.ToLower(w) {
		return title(strings.ToLower(w))
	}
	return w
}

func title(w string) string {
	switch w {
	case "of", "the", "and":
		return w
	}
	return strings.ToUpper(w[:1]) + w[1:]
}

// sayNumeral says the digits in a name: "4th", "40", "13A".
func sayNumeral(w string) (string, bool) {
	end := 0
	for end < len(w) && w[end] >= '0' && w[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(w[:end])
	if err != nil || n < 1 || n > MaxNumber {
		return "", false
	}
	switch suffix := w[end:]; {
	case suffix == "":
		return SayNumber(n), true
	case suffix == "st" || suffix == "nd" || suffix == "rd" || suffix == "th":
		return ordinal(n)
	case len(suffix) == 1:
		return SayNumber(n) + " " + suffix, true
	}
	return "", false
}

var ordinals = map[string]string{"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
	"nine": "ninth", "twelve": "twelfth"}

// ordinal says a place in a row, up to 999th.
func ordinal(n int) (string, bool) {
	if n > 999 {
		return "", false
	}
	words := strings.Fields(cardinal(n, false))
	last := words[len(words)-1]
	switch {
	case ordinals[last] != "":
		last = ordinals[last]
	case strings.HasSuffix(last, "y"):
		last = strings.TrimSuffix(last, "y") + "ieth"
	default:
		last += "th"
	}
	words[len(words)-1] = last
	return strings.Join(words, " "), true
}

// Ordinal says "first", "second" and so on; n is at least 1 and at most 999.
func Ordinal(n int) string {
	s, _ := ordinal(n)
	return s
}
