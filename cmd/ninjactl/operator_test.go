package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const upperSamples = `<samples xmlns="urn:ninja:samples:1" judge="exact"><in>text/plain;lang=en</in><out>text/plain;lang=en;style=upper</out>
<sample><give>one</give><want>ONE</want></sample><sample><give>two</give><want>TWO</want></sample></samples>`

// An HTTP service is checked as a program is: at addresses that one allows, and at no others.
func TestCheckAService(t *testing.T) {
	bad := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		_, _ = b.ReadFrom(r.Body)
		if bad {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write(bytes.ToUpper(b.Bytes()))
	}))
	defer server.Close()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("samples.xml", upperSamples)
	write("operator.xml", `<operator xmlns="urn:ninja:service:1" name="upper" program="wrap-http">
  <in>text/plain;lang=$l</in>
  <out>text/plain;lang=$l;style=upper</out>
  <cost cpu="0.001" latency="1s" memory="1048576" price="0.2"/>
  <arg name="url" value="`+server.URL+`"/>
</operator>`)
	c := operatorCheck{project: project{Dir: dir}}
	m, err := c.try(context.Background())
	if err != nil || m.Passed || !strings.Contains(m.Against[0], "may not be at that address") {
		t.Errorf("without leave: %+v %v", m, err)
	}
	c.Reach = []string{"127.0.0.0/8"}
	if m, err = c.try(context.Background()); err != nil || !m.Passed || m.Quality != 1 || m.Samples != 2 {
		t.Errorf("%+v %v", m, err)
	}
	if err := c.rewrite(m); err != nil {
		t.Error(err)
	}
	if _, spec, err := c.read(); err != nil || spec.Cost.Price != 0.2 || spec.Cost.Latency > m.Declared.Latency || spec.Cost.Quality != 1 {
		t.Errorf("rewritten as %+v %v", spec, err)
	}
	bad = true
	if m, err = c.try(context.Background()); err != nil || m.Passed || !strings.Contains(m.Against[0], "status 418") {
		t.Errorf("a service that fails: %+v %v", m, err)
	}
	c.Reach = []string{"localhost"}
	if _, err = c.try(context.Background()); err == nil || !strings.Contains(err.Error(), "127.0.0.0/8") {
		t.Errorf("a bad network: %v", err)
	}
}

// What an author forgets is named, with what to do.
func TestProjectsAreIncomplete(t *testing.T) {
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{nil, "ninjactl operator init makes one"},
		{map[string]string{"operator.xml": "<operator"}, "operator.xml: line 1"},
		{map[string]string{"operator.xml": `<operator xmlns="urn:ninja:service:1" name="x" program="p"/>`}, "an in or an out element is wanted"},
		{map[string]string{"operator.xml": `<operator xmlns="urn:ninja:service:1" name="x" program="sh"><in>text/plain;lang=en</in><out>text/plain;lang=en;style=upper</out></operator>`}, "without samples"},
		{map[string]string{"operator.xml": `<operator xmlns="urn:ninja:service:1" name="x" program="sh"><in>text/plain;lang=en</in><out>text/plain;lang=en;style=upper</out></operator>`, "samples.xml": upperSamples},
			`program="sh": want one of [wrap-grpc wrap-http wrap-program]`},
		{map[string]string{"operator.xml": `<operator xmlns="urn:ninja:service:1" name="x" program="wrap-program"><in>text/plain;lang=en</in><out>text/plain;lang=en;style=upper</out><arg name="key" value="x"/></operator>`, "samples.xml": upperSamples},
			"program.yaml"},
		{map[string]string{"operator.xml": `<operator xmlns="urn:ninja:service:1" name="x" program="wrap-program"><in>text/plain;lang=en</in><out>text/plain;lang=en;style=upper</out><arg name="key" value="x"/></operator>`, "samples.xml": upperSamples,
			"program.yaml": "x: {command: [./missing]}"}, "no such file"},
	} {
		dir := t.TempDir()
		for name, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := (&operatorCheck{project: project{Dir: dir}}).try(context.Background()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.files, err, c.want)
		}
	}
}
