package speech

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// MaxGrammar bounds a grammar's text in bytes, maxWords the different words in it, maxStates what it has written out.
const (
	MaxGrammar = 4 << 20
	maxWords   = 20000
	maxWord    = 40
	maxStates  = 1000000
)

// GrammarWords lists the words that a JSGF grammar can produce, in order, each once. It reads no more of the language than
// it needs to tell words from rules, tags, weights and comments, and checks what the engine does not: that every rule used
// is defined, so nothing can be imported, and that the grammar does not explode when rules are put in for their names.
// Whether it is right otherwise is for the engine to say.
func GrammarWords(jsgf string) ([]string, error) {
	if len(jsgf) > MaxGrammar {
		return nil, fmt.Errorf("a grammar of %d bytes: at most %d are allowed", len(jsgf), MaxGrammar)
	}
	if strings.IndexByte(jsgf, 0) >= 0 {
		return nil, fmt.Errorf("a grammar with a zero byte")
	}
	g := grammar{words: make(map[string]bool), rules: map[string]*rule{"NULL": {}, "VOID": {}}, now: &rule{}}
	if err := g.scan(jsgf); err != nil {
		return nil, err
	}
	for name := range g.used {
		if g.rules[name] == nil {
			return nil, fmt.Errorf("the grammar uses the rule <%.50s>, which it does not define", name)
		}
	}
	for name, r := range g.rules {
		if n := g.size(r); n > maxStates {
			return nil, fmt.Errorf("the rule <%.50s> of the grammar has more than %d words when it is written out", name, maxStates)
		}
	}
	return slices.Sorted(maps.Keys(g.words)), nil
}

// grammar is what has been read of one.
type grammar struct {
	words map[string]bool
	rules map[string]*rule
	used  map[string]bool
	now   *rule // the one being read
}

// rule is how many words stand in a rule and which rules it uses; total is its size written out, once it is known.
type rule struct {
	words int
	uses  []string
	total int
	state uint8 // 0 unknown, 1 being counted, 2 known
}

func (g *grammar) scan(s string) error {
	g.used = make(map[string]bool)
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
		case s[0] == '{':
			skip = "}"
		case s[0] == '<':
			s = g.reference(s[1:])
			continue
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
				return err
			}
			g.words[word] = true
			g.now.words++
		}
		if s = s[n:]; len(g.words) > maxWords {
			return fmt.Errorf("a grammar of more than %d different words", maxWords)
		}
	}
	return nil
}

// reference reads NAME> and what follows: the beginning of a rule when that is an equals sign, otherwise its use.
func (g *grammar) reference(s string) (rest string) {
	name, rest, _ := strings.Cut(s, ">")
	if strings.HasPrefix(strings.TrimSpace(rest), "=") {
		g.now = &rule{}
		g.rules[name] = g.now
		return rest
	}
	g.used[name] = true
	g.now.uses = append(g.now.uses, name)
	return rest
}

// size is how many words a rule has when the rules it uses are written out in it; a rule within itself counts once, as
// the engine goes round there.
func (g *grammar) size(r *rule) int {
	switch r.state {
	case 1:
		return 1
	case 2:
		return r.total
	}
	r.state = 1
	n := r.words
	for _, name := range r.uses {
		n = min(n+1+g.size(g.rules[name]), maxStates+1)
	}
	r.total, r.state = n, 2
	return n
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
