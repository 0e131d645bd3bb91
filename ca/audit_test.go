package ca

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever is done to a line before the last shows.
func TestTheAuditLogIsAChain(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, fileAudit)
	for range 3 { // over restarts, one of which follows a crash in the middle of a write
		l, err := OpenAuditLog(dir)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := l.Write(Record{Time: time.Now(), Event: "join", ID: "spiffe://test/user/u"}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.f.WriteString(`{"torn`); err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	l, err := OpenAuditLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := VerifyAudit(bytes.NewReader(whole)); n != 9 || err != nil {
		t.Fatal(n, err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for name, forged := range map[string]string{
		"changed":   strings.Replace(string(whole), "user/u", "user/v", 1),
		"taken out": strings.Join(append(append([]string{}, lines[:4]...), lines[5:]...), ""),
		"swapped":   strings.Join(append([]string{lines[1], lines[0]}, lines[2:]...), ""),
		"put in":    lines[0] + lines[0] + strings.Join(lines[1:], ""),
	} {
		if _, err := VerifyAudit(strings.NewReader(forged)); err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}
