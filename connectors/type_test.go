package connectors

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseType(t *testing.T) {
	for in, want := range map[string]string{
		"audio/L16;rate=16000;channels=1":            "audio/L16;channels=1;rate=16000",
		"text/plain; lang=en ;about=address":         "text/plain;about=address;lang=en",
		"text/plain;grammar=a#b@sha256:00ff;lang=en": "text/plain;grammar=a#b@sha256:00ff;lang=en",
		"text/plain":         "text/plain",
		"":                   "",
		"text":               "",
		"text/":              "",
		"text/plain;":        "",
		"text/plain;a":       "",
		"text/plain;A=b":     "",
		"text/plain;a=b;a=c": "",
		"text/plain;a=$b":    "",
		"text/plain;a=b|c":   "",
		"text/plain;a=1..5":  "",
		"text/plain;a=..":    "",
		"text/plain;a=<b>":   "",
		"text/plain" + strings.Repeat(";a=b", 17):    "",
		"text/" + strings.Repeat("x", MaxTypeLength): "",
	} {
		got, err := ParseType(in)
		if (err != nil) != (want == "") || got.String() != want || got.IsZero() != (want == "") {
			t.Errorf("%.60q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestTypeParts(t *testing.T) {
	a := MustType("audio/L16;rate=16000;channels=1")
	if a.Media() != "audio/L16" || a.Get("rate") != "16000" || a.Get("lang") != "" || len(a.Params()) != 2 {
		t.Errorf("%q: %q %q %v", a, a.Media(), a.Get("rate"), a.Params())
	}
	if b := MustType("audio/L16;channels=1;rate=16000"); a != b {
		t.Error("the order of parameters makes another type")
	}
	var c Type
	text, _ := a.MarshalText()
	if err := c.UnmarshalText(text); err != nil || c != a {
		t.Errorf("%q, %v", c, err)
	}
	if err := c.UnmarshalText([]byte("nonsense")); err == nil || c != a {
		t.Errorf("%q, %v: an error must change nothing", c, err)
	}
}

// FuzzParseType: what is read is printed so that it reads the same again.
func FuzzParseType(f *testing.F) {
	f.Add("audio/L16;rate=16000;channels=1")
	f.Add("text/plain;grammar=spiffe://d/base/b#map@sha256:00ff;lang=en")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseType(s)
		if err != nil {
			return
		}
		b, err := ParseType(a.String())
		if err != nil || a != b {
			t.Errorf("%q reads as %q, then as %q, %v", s, a, b, err)
		}
	})
}
