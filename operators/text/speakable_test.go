package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSpeakable(t *testing.T) {
	got := Speakable(`<html><head><title>x</title><style>p{}</style></head><body><h1>Driving to 615 Main Street</h1>
<ul><li>Turn left &amp; drive 1.5 mi</li><li>After 1 mi, or 300 ft, stop!</li><li>***</li></ul>
<table><tr><td>Toll</td><td>$2.50</td></tr></table><p>See https://maps.example.com/route?id=7 or www.example.org, e.g. for 50% off → bus.</p>
<script>alert(1)</script><hr><p>Is it far?</p>`)
	want := `Driving to 615 Main Street.
Turn left and drive 1.5 miles.
After 1 mile, or 300 feet, stop!
Toll 2.50 dollars.
See maps dot example dot com or example dot org, for example for 50 percent off to bus.
Is it far?`
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Any page becomes text without markup or control characters, a sentence a line.
func FuzzSpeakable(f *testing.F) {
	f.Add("<p>1 mi & $5 → http://x.y</p>")
	f.Add("<li>\x00\xff<b")
	f.Fuzz(func(t *testing.T, page string) {
		got := Speakable(page)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' && r != '\n' }) || utf8.ValidString(page) && !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", page, got)
		}
		for line := range strings.Lines(got) {
			if line = strings.TrimSpace(line); line == "" || !strings.ContainsRune(".!?:;", rune(line[len(line)-1])) {
				t.Errorf("%q is no sentence, of %q", line, page)
			}
		}
	})
}
