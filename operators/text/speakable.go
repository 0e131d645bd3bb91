package text

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Speakable turns an English page into text that a voice can read to somebody who does not see it: every heading, item
// and cell row is a sentence of its own; what is written for the eye (bullets, rules, arrows, bare addresses of pages) is
// left out or said in words.
func Speakable(page string) string {
	var out []string
	for line := range strings.Lines(FromHTML(page)) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- "))
		line = strings.Join(strings.Fields(inWords(line)), " ")
		if !strings.ContainsFunc(line, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			continue
		}
		if last, _ := utf8.DecodeLastRuneInString(line); !strings.ContainsRune(".!?:;", last) {
			line = strings.TrimRight(line, ",-") + "."
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

var (
	addresses = regexp.MustCompile(`\b(?:https?://|www\.)[^\s<>"]+`)
	measures  = regexp.MustCompile(`\b(\d+(?:\.\d+)?) ?(mi|ft|yd|km|m|kg|mph|min|h)\b`)
	money     = regexp.MustCompile(`([$€£])(\d+(?:[.,]\d+)*)`)
	controls  = regexp.MustCompile(`[\x00-\x1f\x7f]+`)
)

// inWords says what is written in signs and abbreviations.
func inWords(s string) string {
	s = addresses.ReplaceAllStringFunc(s, func(url string) string {
		_, host, found := strings.Cut(url, "://")
		if !found {
			host = url
		}
		if i := strings.IndexAny(host, "/?#:"); i >= 0 {
			host = host[:i]
		}
		return strings.ReplaceAll(strings.Trim(strings.TrimPrefix(host, "www."), "."), ".", " dot ")
	})
	s = money.ReplaceAllStringFunc(s, func(m string) string {
		sign, size := utf8.DecodeRuneInString(m)
		return m[size:] + map[rune]string{'$': " dollars", '€': " euros", '£': " pounds"}[sign]
	})
	s = measures.ReplaceAllStringFunc(s, func(m string) string {
		part := measures.FindStringSubmatch(m)
		unit := map[string]string{"mi": "miles", "ft": "feet", "yd": "yards", "km": "kilometres", "m": "metres", "kg": "kilograms",
			"mph": "miles an hour", "min": "minutes", "h": "hours"}[part[2]]
		if part[1] == "1" && unit != "feet" {
			unit = strings.Replace(unit, "miles", "mile", 1)
			unit = strings.TrimSuffix(unit, "s")
		}
		if part[1] == "1" && unit == "feet" {
			unit = "foot"
		}
		return part[1] + " " + unit
	})
	s = strings.NewReplacer(" & ", " and ", "%", " percent", "→", " to ", "⇒", " to ", "e.g.", "for example", "i.e.", "that is",
		"•", " ", "·", ", ", "|", ", ", "*", " ", "_", " ", "#", " number ", "°", " degrees ", "–", " to ", "—", ", ", "…", ".").Replace(s)
	return controls.ReplaceAllString(s, " ")
}
