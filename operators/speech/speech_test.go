package speech

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// recogniserPath is the child program as TestMain built it.
var recogniserPath string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "recognise")
	if err == nil {
		recogniserPath = filepath.Join(dir, "ninja-recognise")
		err = buildRecogniser(recogniserPath)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the recogniser (gcc, pkg-config, libpocketsphinx-dev, pocketsphinx-en-us):", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func buildRecogniser(to string) error {
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "pocketsphinx", "sphinxbase").Output()
	if err != nil {
		return err
	}
	args := append([]string{"-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", to, "engine/recognise.c"},
		strings.Fields(string(flags))...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc %v: %w\n%s", args, err, out)
	}
	return nil
}

func TestGrammarWords(t *testing.T) {
	got, err := GrammarWords(`#JSGF V1.0 UTF-8 en; // comment
grammar address.map;
/* long
 comment ; words */
public <address> = /0.5/ <number> (main | /2/ o'neill) {tag words} street+ [ "please" ] ;
<number> = six fifteen | six;`)
	if err != nil || strings.Join(got, " ") != "fifteen main o'neill please six street" {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"a\x00b", "<x> = b\x1bd;", "<x> = $(reboot);", "import <a.b>;\n<x> = y;", "<x> = <y>;", strings.Repeat("a", 41)} {
		if got, err := GrammarWords(bad); err == nil {
			t.Errorf("%q gives %q, want an error", bad, got)
		}
	}
}

func FuzzGrammarWords(f *testing.F) {
	f.Add("#JSGF V1.0;\ngrammar a;\npublic <a> = b /1.0/ c {d} | <e>;")
	f.Add("/*//<")
	f.Fuzz(func(t *testing.T, s string) {
		words, err := GrammarWords(s)
		if err != nil {
			return
		}
		for _, w := range words {
			if w == "" || checkWord(w) != nil || strings.ContainsAny(w, "\n <>|") {
				t.Errorf("%q is no word", w)
			}
		}
	})
}

func TestLexicon(t *testing.T) {
	l := newLexicon("flite")
	got, err := l.entries(context.Background(), []string{"kirkwood", "christina", "o'neill"})
	if err != nil || !strings.HasPrefix(got, "kirkwood K ER K W UH D\nchristina K R IH S T IY N AH\no'neill ") {
		t.Errorf("%q %v", got, err)
	}
	l.flite = "/nonexistent/flite"
	if again, err := l.entries(context.Background(), []string{"christina"}); err != nil || again != "christina K R IH S T IY N AH\n" {
		t.Errorf("not remembered: %q %v", again, err)
	}
	if _, err := l.entries(context.Background(), []string{"newark"}); err == nil || !strings.Contains(err.Error(), "is it installed") {
		t.Errorf("without flite: %v", err)
	}
}

func TestSentences(t *testing.T) {
	long := strings.Repeat("word ", 200)
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"Turn left. Drive 1.5 miles! Done", []string{"Turn left.", "Drive 1.5 miles!", "Done"}},
		{"Go to Main St. and stop.", []string{"Go to Main St. and stop."}},
		{"one\ntwo \x07 three\n\n...\n", []string{"one", "two three"}},
		{"[[h@l@U]] there", []string{"[h@l@U] there"}},
		{"", nil},
	} {
		if got := Sentences(tc.in); strings.Join(got, "|") != strings.Join(tc.want, "|") {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
	total := ""
	for _, s := range Sentences(long + strings.Repeat("ä", 500)) {
		if len(s) > maxSentence || s == "" {
			t.Errorf("a sentence of %d bytes", len(s))
		}
		total += s + " "
	}
	if strings.Count(total, "word") != 200 || strings.Count(total, "ä") != 500 {
		t.Errorf("words got lost: %q", total)
	}
}
