// Package jsgftest accepts or refuses sentences by a speech grammar (JSGF), slowly and simply, for tests: rules,
// alternatives, optional and grouped parts, without weights, repetition and tags.
package jsgftest

import (
	"fmt"
	"regexp"
	"strings"
)

// Grammar is a parsed grammar.
type Grammar struct {
	rules  map[string]node
	public string
}

// node matches words from a place on and reports every place where it may end.
type node func(g *Grammar, words []string, at int, end func(int))

var token = regexp.MustCompile(`<[a-z]+>|[()\[\]|=;]|[a-z']+`)

// Parse reads a grammar; it panics on one that is wrong.
func Parse(text string) *Grammar {
	_, text, _ = strings.Cut(text, "grammar ")
	_, text, _ = strings.Cut(text, ";")
	if odd := strings.TrimSpace(token.ReplaceAllString(text, "")); odd != "" {
		panic(fmt.Sprintf("odd characters in the grammar: %q", odd))
	}
	g := &Grammar{rules: map[string]node{}}
	p := &parser{token.FindAllString(text, -1)}
	for len(p.t) > 0 {
		public := p.take("public")
		name := p.next()
		p.must("=")
		g.rules[name] = p.alternatives()
		p.must(";")
		if public {
			g.public = name
		}
	}
	return g
}

// Accepts reports whether the public rule accepts the words.
func (g *Grammar) Accepts(sentence string) bool { return g.Rule(g.public, sentence) }

// Rule reports whether a rule accepts the words.
func (g *Grammar) Rule(name, sentence string) bool {
	words, ok := strings.Fields(sentence), false
	g.rules[name](g, words, 0, func(end int) { ok = ok || end == len(words) })
	return ok
}

type parser struct{ t []string }

func (p *parser) next() string { s := p.t[0]; p.t = p.t[1:]; return s }

func (p *parser) take(s string) bool {
	if p.t[0] != s {
		return false
	}
	p.t = p.t[1:]
	return true
}

func (p *parser) must(s string) {
	if !p.take(s) {
		panic(fmt.Sprintf("want %q in the grammar, have %q", s, p.t[0]))
	}
}

func (p *parser) alternatives() node {
	all := []node{p.sequence()}
	for p.take("|") {
		all = append(all, p.sequence())
	}
	return func(g *Grammar, words []string, at int, end func(int)) {
		for _, n := range all {
			n(g, words, at, end)
		}
	}
}

func (p *parser) sequence() node {
	var all []node
	for !strings.Contains("|)];", p.t[0]) {
		all = append(all, p.item())
	}
	var run func(g *Grammar, words []string, at, i int, end func(int))
	run = func(g *Grammar, words []string, at, i int, end func(int)) {
		if i == len(all) {
			end(at)
			return
		}
		all[i](g, words, at, func(next int) { run(g, words, next, i+1, end) })
	}
	return func(g *Grammar, words []string, at int, end func(int)) { run(g, words, at, 0, end) }
}

func (p *parser) item() node {
	switch s := p.next(); {
	case s == "(":
		n := p.alternatives()
		p.must(")")
		return n
	case s == "[":
		n := p.alternatives()
		p.must("]")
		return func(g *Grammar, words []string, at int, end func(int)) { end(at); n(g, words, at, end) }
	case s[0] == '<':
		return func(g *Grammar, words []string, at int, end func(int)) { g.rules[s](g, words, at, end) }
	default:
		return func(_ *Grammar, words []string, at int, end func(int)) {
			if at < len(words) && words[at] == s {
				end(at + 1)
			}
		}
	}
}
