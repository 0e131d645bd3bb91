package main

import (
	"bytes"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"ninja/operators/audio"
)

// operatorCommand is for authors of small transformers.
type operatorCommand struct {
	Init    operatorInit    `cmd:"" help:"Write an operator that works: a program, its description, and samples; then change it."`
	Check   operatorCheck   `cmd:"" help:"Try an operator as a proxy would run it, against its samples, and say what is wrong with it."`
	Publish operatorPublish `cmd:"" help:"Have a proxy examine, publish and run an operator until interrupted."`
	List    operatorList    `cmd:"" help:"List the operators of others that proxies run, and the programs they would."`
}

//go:embed skeleton
var skeletons embed.FS

type operatorInit struct {
	Name  string `arg:"" help:"Name of the operator: lower-case letters, digits and -."`
	Dir   string `help:"Where to; the default is a folder of the operator's name." type:"path"`
	Lang  string `enum:"python,go" default:"python" help:"python or go."`
	Flows string `enum:"text,audio" default:"text" help:"What it changes: text or audio."`
}

var operatorName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Run writes the skeleton into a folder that it makes.
func (o *operatorInit) Run() error {
	if !operatorName.MatchString(o.Name) {
		return fmt.Errorf("name %q: want lower-case letters, digits and -, a letter first, at most 32", o.Name)
	}
	if o.Dir == "" {
		o.Dir = o.Name
	}
	if err := os.Mkdir(o.Dir, 0o755); err != nil {
		return fmt.Errorf("%w: an operator has a folder of its own; --dir names another one", err)
	}
	return o.write()
}

func (o *operatorInit) write() error {
	is := struct{ Name, Command, Mode string }{o.Name, "./" + o.Name, "lines"}
	files := map[string]string{"operator.xml": o.Flows + ".xml", "program.yaml": "program.yaml"}
	switch o.Lang {
	case "python":
		python, err := python()
		if err != nil {
			return err
		}
		is.Command = python + ", ./" + o.Name + ".py"
		files[o.Name+".py"] = "python/" + o.Flows + ".tmpl"
	case "go":
		files["main.go"] = "go/" + o.Flows + ".tmpl"
		if err := os.WriteFile(filepath.Join(o.Dir, "go.mod"), []byte("module "+o.Name+"\n\ngo 1.21\n"), 0o644); err != nil {
			return err
		}
	}
	if o.Flows == "audio" {
		is.Mode = "framed"
		if err := os.WriteFile(filepath.Join(o.Dir, "samples.xml"), tones(o.Name), 0o644); err != nil {
			return err
		}
	} else {
		files["samples.xml"] = "samples.xml"
	}
	for to, from := range files {
		b, err := fs.ReadFile(skeletons, "skeleton/"+from)
		if err != nil {
			return err
		}
		t, err := template.New(from).Parse(string(b))
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, is); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.Dir, to), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%s works: try it with\n  ninjactl operator check %s\nchange %s, operator.xml (what goes in and comes out) and samples.xml, check again, and publish it with\n  ninjactl operator publish %s\n",
		o.Dir, o.Dir, map[string]string{"python": o.Name + ".py", "go": "main.go"}[o.Lang], o.Dir)
	return nil
}

// python is the interpreter that everybody on this machine can start: programs run as nobody.
func python() (string, error) {
	const usual = "/usr/bin/python3"
	if _, err := os.Stat(usual); err == nil {
		return usual, nil
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		return "", errors.New("python3 is not installed (apt install python3), or use --lang go")
	}
	return filepath.Abs(path)
}

// tones are samples of sound: half a second of four tones each, and half as loud.
func tones(name string) []byte {
	f := audio.Format{Rate: 16000, Channels: 1}
	var b strings.Builder
	b.WriteString("<!-- Tones, half a second each, in packets of 20 ms, and what is wanted of them: samples, 16 bits, big-endian. -->\n" +
		"<samples xmlns=\"urn:ninja:samples:1\" judge=\"sound\">\n  <in>audio/L16;channels=1;rate=16000</in>\n" +
		"  <out>audio/L16;channels=1;rate=16000;style=" + name + "</out>\n")
	for _, hertz := range []float64{220, 440, 660, 1100} {
		b.WriteString("  <sample encoding=\"base64\">\n")
		for element, loud := range map[string]float64{"give": 8000, "want": 4000} {
			for packet := range 25 {
				wave := make([]int16, f.Chunk())
				for i := range wave {
					wave[i] = int16(loud * math.Sin(2*math.Pi*hertz*float64(packet*len(wave)+i)/float64(f.Rate)))
				}
				fmt.Fprintf(&b, "    <%s>%s</%s>\n", element, base64.StdEncoding.EncodeToString(audio.Payload(nil, wave)), element)
			}
		}
		b.WriteString("  </sample>\n")
	}
	b.WriteString("</samples>\n")
	return []byte(b.String())
}
