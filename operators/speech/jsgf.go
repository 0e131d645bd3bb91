package speech

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// MaxGrammar bounds a grammar's text in bytes, maxWords the different words in it.
const (
	MaxGrammar = 4 << 20
	maxWords   = 20000
	maxWord    = 40
)

// GrammarWords lists the words that a JSGF grammar can produce, in order, each once. It reads no more of the language than
// it needs to tell words from rules, tags, weights and comments; whether the grammar is right is for the engine to say.
func GrammarWords(jsgf string) ([]string, error) {
	if len(jsgf) > MaxGrammar {
		return nil, fmt.Errorf("a grammar of %d bytes: at most %d are allowed", len(jsgf), MaxGrammar)
	}
	if strings.IndexByte(jsgf, 0) >= 0 {
		return nil, fmt.Errorf("a grammar with a zero byte")
	}
	seen := make(map[string]bool)
	s := jsgf
	if i := strings.Index(s, "grammar "); i >= 0 { // the header: #JSGF V1.0; grammar NAME;
		_, s, _ = strings.Cut(s[i:], ";")
	}
	for s != "" {
		var skip string
		switch {
		case strings.HasPrefix(s, "//"):
			skip = "\n"
		case strings.HasPrefix(s, "/*"):
			skip = "*/"
		case s[0] == '/':
			s, skip = s[1:], "/"
		case s[0] == '<':
			skip = ">"
		case s[0] == '{':
			skip = "}"
		}
		if skip != "" {
			_, s, _ = strings.Cut(s, skip)
			continue
		}
		n := strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(`;=|()[]*+"<>{}/`, r) })
		if n == 0 {
			s = s[1:]
			continue
		}
		if n < 0 {
			n = len(s)
		}
		if word := s[:n]; word != "public" && word != "import" {
			if err := checkWord(word); err != nil {
				return nil, err
			}
			seen[word] = true
		}
		s = s[n:]
		if len(seen) > maxWords {
			return nil, fmt.Errorf("a grammar of more than %d different words", maxWords)
		}
	}
	words := make([]string, 0, len(seen))
	for w := range seen {
		words = append(words, w)
	}
	slices.Sort(words)
	return words, nil
}

// checkWord refuses what is no word, because it goes to two programs as a line of text.
func checkWord(w string) error {
	ok := len(w) <= maxWord && !strings.ContainsFunc(w, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '\'' && r != '-' && r != '.' && r != '_'
	})
	if !ok {
		return fmt.Errorf("the grammar has the word %.50q: letters, digits, ' - . _ are possible, %d at most", w, maxWord)
	}
	return nil
}
