package speech

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// lexicon knows how words sound that the recogniser's dictionary does not have: flite's letter-to-sound rules say it, in
// the phones of the same dictionary (CMU's). It remembers what it was told.
type lexicon struct {
	flite string

	mu    sync.Mutex
	known map[string]string
}

// maxKnown bounds what a lexicon remembers; then it forgets all and begins again.
const maxKnown = 50000

func newLexicon(flite string) *lexicon {
	return &lexicon{flite: flite, known: make(map[string]string)}
}

// entries returns lines of "WORD PHONE PHONE ...", one for each word.
func (l *lexicon) entries(ctx context.Context, words []string) (string, error) {
	l.mu.Lock()
	var ask []string
	for _, w := range words {
		if _, ok := l.known[w]; !ok {
			ask = append(ask, w)
		}
	}
	l.mu.Unlock()
	told, err := l.pronounce(ctx, ask)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known)+len(told) > maxKnown {
		clear(l.known)
	}
	var b strings.Builder
	for i, w := range ask {
		l.known[w] = told[i]
	}
	for _, w := range words {
		fmt.Fprintf(&b, "%s %s\n", w, l.known[w])
	}
	return b.String(), nil
}

// pronounce asks for all words in one call: each is a paragraph of its own, and flite prints a line for each.
func (l *lexicon) pronounce(ctx context.Context, words []string) ([]string, error) {
	if len(words) == 0 {
		return nil, nil
	}
	plain := strings.NewReplacer("_", " ", "-", " ", ".", " ")
	var text strings.Builder
	for _, w := range words {
		fmt.Fprintf(&text, "%s\n\n", plain.Replace(strings.ToLower(w)))
	}
	out, err := run(ctx, text.String(), false, l.flite, "-f", "/dev/stdin", "-o", "none", "-ps")
	if err != nil {
		return nil, fmt.Errorf("ask how %d words sound: %w", len(words), err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(words) {
		return nil, fmt.Errorf("ask how %d words sound: %s said it of %d", len(words), l.flite, len(lines))
	}
	for i, line := range lines {
		if lines[i] = phones(line); lines[i] == "" {
			return nil, fmt.Errorf("the word %q cannot be spoken", words[i])
		}
	}
	return lines, nil
}

// phones turns flite's names of phones into those of the recogniser's model.
func phones(line string) string {
	var out []string
	for _, p := range strings.Fields(line) {
		switch p {
		case "pau":
		case "ax":
			out = append(out, "AH")
		default:
			out = append(out, strings.ToUpper(p))
		}
	}
	return strings.Join(out, " ")
}
