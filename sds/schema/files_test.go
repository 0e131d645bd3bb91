package schema

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileNames(t *testing.T) {
	for _, file := range []string{"printer.dtd", "printer-0.dtd", "-1.dtd", "printer-x.dtd", "printer-1.xml", "a b-1.dtd", "printer-99999999999.dtd"} {
		if name, version, err := ParseFileName(file); err == nil {
			t.Errorf("%s is %s version %d", file, name, version)
		}
	}
	if name, version, err := ParseFileName("/x/" + FileName("laser-printer", 12)); name != "laser-printer" || version != 12 || err != nil {
		t.Error(name, version, err)
	}
}

// What is added is kept before it is known, and read again; what cannot be kept is not known.
func TestKeptSchemas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's [kept]")
	var s Set
	s.Keep = KeepIn(dir)
	for _, x := range []struct {
		name    string
		version uint32
		text    string
	}{{"b", 1, "<!ELEMENT b EMPTY>"}, {"a", 10, "<!ELEMENT a ANY>"}, {"a", 2, "<!ELEMENT a EMPTY>"}, {"a", 2, "<!ELEMENT a EMPTY>"}} {
		if err := s.Add(x.name, x.version, []byte(x.text)); err != nil {
			t.Fatal(err)
		}
	}
	s.Keep = func(string, uint32, []byte) error { return errors.New("the disk is full") }
	if err := s.Add("c", 1, []byte("<!ELEMENT c EMPTY>")); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Error(err)
	}
	if _, ok := s.Text("c", 1); ok {
		t.Error("what could not be kept is known")
	}
	var again Set
	if err := again.AddFiles(dir); err != nil {
		t.Fatal(err)
	}
	for _, set := range []*Set{&s, &again} {
		list := set.List("")
		if len(list) != 3 || list[0] != (Info{"a", 2, 18}) || list[1].Version != 10 || list[2].Name != "b" || len(set.List("b")) != 1 {
			t.Errorf("%+v", list)
		}
	}
	if text, ok := again.Text("a", 10); !ok || string(text) != "<!ELEMENT a ANY>" {
		t.Errorf("%q", text)
	}
}

// Every file that is wrong is named, with the line within it.
func TestWrongFiles(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"a-1.dtd": "<!ELEMENT a EMPTY>", "b-1.dtd": "\n<!ELEMENT b (c>", "c.dtd": "<!ELEMENT c EMPTY>", "README": "x",
		"d-1.dtd": strings.Repeat(" ", MaxBytes+1),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var s Set
	err := s.AddFiles(dir, filepath.Join(dir, "none-1.dtd"))
	for _, want := range []string{"b-1.dtd: schema b/1: line 2: <b>", "c.dtd: the name of a file", "d-1.dtd: schema d/1", "none-1.dtd"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if list := s.List(""); len(list) != 1 || list[0].Name != "a" {
		t.Errorf("%v", list)
	}
}
