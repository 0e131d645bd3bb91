package speech

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSentence is the longest piece of text that is spoken in one go, in bytes; it bounds the wait for the first sample.
const maxSentence = 400

// Sentences cuts text into pieces to be spoken one after another: at the ends of sentences and of lines, and within
// sentences that are too long, at a comma or a space. Control characters become spaces.
func Sentences(text string) (all []string) {
	add := func(s string) {
		for s = clean(s); len(s) > maxSentence; {
			cut := strings.LastIndex(s[:maxSentence], ", ") + 1
			if cut <= 0 {
				cut = strings.LastIndexByte(s[:maxSentence], ' ')
			}
			if cut <= 0 {
				for cut = maxSentence; !utf8.RuneStart(s[cut]); cut-- {
				}
			}
			all = append(all, strings.TrimSpace(s[:cut]))
			s = strings.TrimSpace(s[cut:])
		}
		if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			all = append(all, s)
		}
	}
	for line := range strings.Lines(text) {
		start := 0
		for i := 0; i+1 < len(line); i++ {
			if strings.IndexByte(".!?", line[i]) >= 0 && unicode.IsSpace(rune(line[i+1])) && !abbreviated(line[start:i+1]) {
				add(line[start : i+1])
				start = i + 1
			}
		}
		add(line[start:])
	}
	return all
}

// abbreviated reports whether the dot that s ends with belongs to an abbreviation.
func abbreviated(s string) bool {
	if s[len(s)-1] != '.' {
		return false
	}
	word := strings.ToLower(s[strings.LastIndexByte(s, ' ')+1 : len(s)-1])
	switch word {
	case "mr", "mrs", "ms", "dr", "st", "ave", "rd", "blvd", "no", "vs", "jr", "sr":
		return true
	}
	return len(word) == 1 && word[0] >= 'a' && word[0] <= 'z'
}

// clean keeps what can be spoken. The engines read [[...]] as phones; a person who writes it means brackets.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	s = strings.NewReplacer("[[", "[", "]]", "]").Replace(s)
	return strings.Join(strings.Fields(s), " ")
}
