package plan

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ninja/ca"
	"ninja/operators"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

// TestScripts runs the stories in testdata: worlds, requests, and what is said to them. A paragraph is a command, its
// lines, "----" and the expected output up to an empty line.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { runScript(t, f) })
	}
}

func runScript(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	w := &scriptWorld{}
	for _, par := range strings.Split(strings.TrimSpace(string(b)), "\n\n") {
		command, want, isCommand := strings.Cut(par, "\n----")
		if !isCommand {
			out = append(out, par) // prose
			continue
		}
		got := strings.TrimSpace(w.do(command))
		want = strings.TrimSpace(want)
		if got != want && !*update {
			t.Errorf("%s\nsays\n%s\nwant\n%s", command, got, want)
		}
		out = append(out, strings.TrimSpace(command+"\n----\n"+got))
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type scriptWorld struct {
	parts Parts
}

func (w *scriptWorld) do(command string) string {
	head, body, _ := strings.Cut(command, "\n")
	verb, rest, _ := strings.Cut(head, " ")
	switch verb {
	case "world":
		return w.build(strings.Split(body, "\n"), rest == "more")
	case "plan", "explain", "json", "dot", "mermaid":
		return w.request(verb, rest)
	}
	return "no such command: " + verb
}

// build reads lines: node NAME k=v..., link A B LATENCY, operator NAME KIND: IN -> OUT k=v... at NODE,NODE.
func (w *scriptWorld) build(lines []string, more bool) string {
	if !more {
		w.parts = Parts{}
	}
	id := func(s string) ca.ID { return ca.ID("spiffe://example.org/" + s) }
	for _, line := range lines {
		f := strings.Fields(line)
		switch f[0] {
		case "node":
			n := Node{ID: id(f[1])}
			for _, kv := range f[2:] {
				k, v, _ := strings.Cut(kv, "=")
				x, _ := strconv.ParseFloat(v, 64)
				switch k {
				case "load":
					n.Load = x
				case "cores":
					n.Cores = x
				case "memory":
					n.Memory, _ = parseBytes(v)
				case "region":
					n.Region = v
				case "transports":
					n.Transports = strings.Split(v, ",")
				}
			}
			w.parts.Nodes = append(w.parts.Nodes, n)
		case "link":
			d, _ := time.ParseDuration(f[3])
			w.parts.Links = append(w.parts.Links, Link{From: f[1], To: f[2], Latency: d})
		case "operator", "fixed":
			head, places, _ := strings.Cut(line, " at ")
			f = strings.Fields(head)
			o := Operator{Name: f[1], Kind: strings.TrimSuffix(f[2], ":"), Fixed: f[0] == "fixed", Spec: operators.Spec{Name: f[1]}}
			if f[3] != "-" {
				o.Spec.In = operators.MustPattern(f[3])
			}
			if f[5] != "-" {
				o.Spec.Out = operators.MustPattern(f[5])
			}
			for _, kv := range f[6:] {
				k, v, _ := strings.Cut(kv, "=")
				x, _ := strconv.ParseFloat(v, 64)
				switch k {
				case "latency":
					d, _ := time.ParseDuration(v)
					o.Spec.Cost.Latency = operators.Latency(d)
				case "cpu":
					o.Spec.Cost.CPU = x
				case "memory":
					o.Spec.Cost.Memory, _ = parseBytes(v)
				case "price":
					o.Spec.Cost.Price = x
				case "quality":
					o.Spec.Cost.Quality = x
				}
			}
			for _, p := range strings.Split(places, ",") {
				o.Places = append(o.Places, Place{Node: id(strings.TrimSpace(p))})
			}
			for i := range w.parts.Operators {
				if w.parts.Operators[i].Name == o.Name {
					w.parts.Operators = append(w.parts.Operators[:i], w.parts.Operators[i+1:]...)
					break
				}
			}
			w.parts.Operators = append(w.parts.Operators, o)
		}
	}
	return fmt.Sprintf("%d operators, %d nodes", len(w.parts.Operators), len(w.parts.Nodes))
}

func (w *scriptWorld) request(verb, text string) string {
	c, err := NewCatalogue(w.parts)
	if err != nil {
		return err.Error()
	}
	f, err := ParseForm(text)
	if err != nil {
		return err.Error()
	}
	r := Request{From: f.From.Text + "/out", To: f.To.Text + "/in", Bounds: f.Bounds, Weights: f.Weights, Steps: f.Steps}
	for _, x := range f.Include {
		q := Requirement{Label: x.String(), After: x.After}
		for _, o := range w.parts.Operators {
			if x.Find && o.Kind == x.Text || !x.Find && o.Name == x.Text {
				q.Any = append(q.Any, o.Name)
			}
		}
		r.Include = append(r.Include, q)
	}
	p, err := c.Plan(context.Background(), r)
	var no *Refusal
	if errors.As(err, &no) {
		text := fmt.Sprintf("refused (%s): %v", no.Reason, no)
		if no.Reason == NoTypes {
			text += fmt.Sprintf("\nconflict: %s", strings.Join(no.Conflict, ", "))
			if m := no.Missing; m != nil {
				text += fmt.Sprintf("\nmissing: %s (%s) to %s (%s)", m.Offers, m.From, m.Wants, m.To)
			}
			if no.Nearest != nil {
				text += fmt.Sprintf("\nnearest: %d steps, by way of", no.Nearest.Steps)
				for _, q := range no.Nearest.Include {
					text += fmt.Sprintf(" %s after %v", q.Label, q.After)
				}
			}
		} else if no.Nearest != nil && no.Reason == NoPlace {
			text += "\nnearest: by way of"
			for _, q := range no.Nearest.Include {
				text += " " + q.Label
			}
		} else if no.Nearest != nil {
			b := no.Nearest.Bounds
			text += fmt.Sprintf("\nnearest: latency %v, cpu %g, memory %s, price %g, quality %g, domains %v", b.Latency, round(b.CPU), bytesText(b.Memory), round(b.Price), round(b.Quality), b.Domains)
		}
		for _, c := range no.Causes {
			text += strings.TrimRight(fmt.Sprintf("\ncause: %s %s", c.Kind, c.Name), " ")
			if c.Asked != "" {
				text += ", asked " + c.Asked
			}
			if c.Needed != "" {
				text += ", needed " + c.Needed
			}
		}
		return text
	} else if err != nil {
		return err.Error()
	}
	switch verb {
	case "explain":
		return c.Explain(context.Background(), r, p, 0).Text()
	case "json":
		b, _ := json.MarshalIndent(p.Steps[1], "", "  ")
		return string(b)
	case "dot":
		return p.DOT()
	case "mermaid":
		return p.Mermaid()
	}
	return p.Text()
}
