// Package speech holds the operators between sound and words: a recogniser that hears what a grammar allows, and voices.
//
// The engines are programs of their own (pocketsphinx behind the child in engine/, flite, espeak-ng): a fault in one kills
// neither the node nor the path, and the product itself needs no cgo. They are started with a fixed argument list and no
// shell; text reaches them on standard input only; they get an empty environment, a memory limit, a deadline and a
// process group that is killed when the path ends.
package speech

import (
	"os"
	"path/filepath"

	"ninja/operators"
)

// Programs says where the engines are. A name without a slash is looked up in the PATH.
type Programs struct {
	// Recogniser is the child program of engine/; "" is ninja-recognise beside the running executable, or in the PATH.
	Recogniser string
	// Flite speaks and knows how words sound; "" is flite.
	Flite string
	// Espeak speaks; "" is espeak-ng.
	Espeak string
	// Warm keeps one recogniser started ahead of the next path, for as long as paths are made.
	Warm bool
}

func (p Programs) withDefaults() Programs {
	if p.Recogniser == "" {
		p.Recogniser = "ninja-recognise"
		if self, err := os.Executable(); err == nil {
			beside := filepath.Join(filepath.Dir(self), p.Recogniser)
			if _, err := os.Stat(beside); err == nil {
				p.Recogniser = beside
			}
		}
	}
	if p.Flite == "" {
		p.Flite = "flite"
	}
	if p.Espeak == "" {
		p.Espeak = "espeak-ng"
	}
	return p
}

// Register registers the programs of this package.
func Register(r *operators.Registry, p Programs) {
	p = p.withDefaults()
	lex := newLexicon(p.Flite)
	r.Add("recognise", recogniserFactory(&pool{program: p.Recogniser, warm: p.Warm}, lex))
	r.Add("speak-flite", fliteFactory(p.Flite))
	r.Add("speak-espeak", espeakFactory(p.Espeak))
}
