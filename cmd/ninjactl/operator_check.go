package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/golden"
	"ninja/operators/wrap"
	"ninja/proxy"
)

// project is an author's folder.
type project struct {
	Dir string `arg:"" default:"." type:"existingdir" help:"The operator's folder: operator.xml, and for a program program.yaml."`
}

// read reads and checks the description.
func (p project) read() ([]byte, *operators.Spec, error) {
	file := filepath.Join(p.Dir, "operator.xml")
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (ninjactl operator init makes one)", err)
	}
	spec, err := proxy.ReadOperator(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, spec, nil
}

// key is the program that a description names, "" when it wraps no program.
func key(spec *operators.Spec) string {
	for _, a := range spec.Args {
		if a.Name == "key" && spec.Program == wrap.ProgramKey {
			return a.Value
		}
	}
	return ""
}

type operatorCheck struct {
	project
	Samples string   `help:"The samples to try it with; the default is samples.xml in the folder." type:"existingfile" placeholder:"FILE"`
	Reach   []string `help:"A network that a wrapped service may be in, beside public ones, such as 127.0.0.0/8; may be repeated." placeholder:"PREFIX"`
	Write   bool     `help:"Write the measured cost into operator.xml."`
	output
}

// measured is what check prints.
type measured struct {
	Operator string            `json:"operator"`
	Passed   bool              `json:"passed"`
	Against  []string          `json:"against,omitempty"`
	Samples  int               `json:"samples"`
	Quality  float64           `json:"quality"`
	P50      operators.Latency `json:"p50"`
	P99      operators.Latency `json:"p99"`
	CPU      float64           `json:"cpu"`
	Memory   int64             `json:"memory"`
	Declared operators.Cost    `json:"declared"`
}

func (c *operatorCheck) Run(ctx context.Context) error {
	m, err := c.try(ctx)
	if err != nil {
		return err
	}
	err = c.print(m, func(w io.Writer) {
		if m.Samples == 0 { // nothing to measure
			return
		}
		fmt.Fprintf(w, "\tMEASURED\tDECLARED\n")
		fmt.Fprintf(w, "quality\t%.3f of %d samples\t%.3f\n", m.Quality, m.Samples, declared(m.Declared.Quality))
		fmt.Fprintf(w, "latency\tp50 %v, p99 %v\t%v\n", round(m.P50), round(m.P99), time.Duration(m.Declared.Latency))
		fmt.Fprintf(w, "cpu\t%.4f of a core\t%.4f\n", m.CPU, m.Declared.CPU)
		fmt.Fprintf(w, "memory\t%s\t%.1f MiB\n", mebibytes(m.Memory), float64(m.Declared.Memory)/(1<<20))
	})
	if err != nil {
		return err
	}
	if c.Write {
		if err := c.rewrite(m); err != nil {
			return err
		}
	}
	if !m.Passed {
		return fmt.Errorf("%s: %s", m.Operator, strings.Join(m.Against, "; "))
	}
	if c.Output != "json" {
		fmt.Printf("%s does what its description says\n", m.Operator)
	}
	return nil
}

func declared(quality float64) float64 {
	if quality == 0 {
		return 1
	}
	return quality
}

func round(l operators.Latency) time.Duration { return time.Duration(l).Round(10 * time.Microsecond) }

func mebibytes(n int64) string {
	if n == 0 {
		return "not known"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// try runs the operator under the limits of a proxy.
func (c *operatorCheck) try(ctx context.Context) (*measured, error) {
	_, spec, err := c.read()
	if err != nil {
		return nil, err
	}
	file := c.Samples
	if file == "" {
		file = filepath.Join(c.Dir, "samples.xml")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: without samples there is nothing to try it with", err)
	}
	set, err := golden.ParseSet(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	w, err := c.wrapper(ctx, spec)
	if err != nil {
		return nil, err
	}
	var r operators.Registry
	w.Register(&r)
	if !slices.Contains(r.Keys(), spec.Program) {
		return nil, fmt.Errorf("operator.xml: program=%q: want one of %v", spec.Program, r.Keys())
	}
	var report *golden.Report
	var used wrap.Usage
	for range 2 { // a busy machine makes anything slow: a second try tells
		before := w.Used(key(spec))
		report, err = golden.Check(ctx, golden.Config{World: world.Real(), Patience: 5 * time.Second}, golden.In(&r, *spec), set)
		if err != nil {
			return nil, err
		}
		used = w.Used(key(spec))
		used.CPU -= before.CPU
		if !report.OnlySlow() {
			break
		}
	}
	return weigh(report, spec, set, used), nil
}

// weigh puts what was measured beside what is declared.
func weigh(r *golden.Report, spec *operators.Spec, set *golden.Set, used wrap.Usage) *measured {
	m := &measured{Operator: r.Operator, Against: r.Against, Samples: r.Samples, Quality: r.Quality,
		P50: operators.Latency(r.P50), P99: operators.Latency(r.P99), Memory: used.Memory, Declared: spec.Cost}
	each := time.Second // a request a second is what a cost is of
	if set.Stream {
		each = max(set.Sound(), 20*time.Millisecond)
	}
	m.CPU = used.CPU.Seconds() / float64(max(r.Samples, 1)) / each.Seconds()
	if m.Memory > spec.Cost.Memory {
		m.Against = append(m.Against, fmt.Sprintf("memory %s where %.1f MiB is declared: raise memory in operator.xml (--write does)",
			mebibytes(m.Memory), float64(spec.Cost.Memory)/(1<<20)))
	}
	if m.CPU > 3*spec.Cost.CPU && m.CPU > 0.01 {
		m.Against = append(m.Against, fmt.Sprintf("cpu %.3f of a core where %.3f is declared: raise cpu in operator.xml (--write does)", m.CPU, spec.Cost.CPU))
	}
	for i, s := range m.Against {
		if strings.HasPrefix(s, golden.Slow) {
			m.Against[i] = s + ": raise latency in operator.xml (--write does), or keep one process (mode: lines or framed)"
		}
		if strings.Contains(s, "no end of its output") || strings.Contains(s, "no answer in time") {
			m.Against[i] = s + ": does it answer every request, and flush its output after each?"
		}
	}
	m.Passed = len(m.Against) == 0
	return m
}

// wrapper is a wrapper with the programs of the folder.
func (c *operatorCheck) wrapper(ctx context.Context, spec *operators.Spec) (*wrap.Wrapper, error) {
	cfg := wrap.Config{Timeout: 5 * time.Second}
	for _, s := range c.Reach {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("--reach %q: want a network such as 127.0.0.0/8", s)
		}
		cfg.Allow = append(cfg.Allow, p)
	}
	if spec.Program == wrap.ProgramKey {
		if err := c.build(ctx); err != nil {
			return nil, err
		}
		var err error
		if cfg.Programs, err = c.programs(spec); err != nil {
			return nil, err
		}
	}
	return wrap.New(cfg)
}

func (c *operatorCheck) programs(spec *operators.Spec) (map[string]wrap.Program, error) {
	file := filepath.Join(c.Dir, "program.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	programs, err := wrap.ParsePrograms(b, c.Dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p, ok := programs[key(spec)]
	if !ok {
		return nil, fmt.Errorf("operator.xml names the program %q, and %s has none of that key", key(spec), file)
	}
	for _, path := range append([]string{p.Path}, p.Args...) {
		if filepath.IsAbs(path) {
			if err := reachable(path); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return programs, nil
}

// reachable says why a file cannot be had by the user that programs run as. Of a tool that is not root's, that is its own.
func reachable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	if info.Mode().Perm()&0o004 == 0 && !info.IsDir() {
		return fmt.Errorf("%s: programs run as nobody, who may not read it: chmod o+r %s", path, path)
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s: programs run as nobody, who may not enter %s: chmod o+x it, or move the operator elsewhere", path, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// build builds a program in Go.
func (c *operatorCheck) build(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(c.Dir, "main.go")); err != nil {
		return nil
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		return errors.New("main.go: go is not installed (https://go.dev/dl): build it yourself")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, goTool, "build", ".")
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

var costElement = regexp.MustCompile(`<cost\b[^>]*/>`)

// rewrite puts the measured cost into the description, with some room.
func (c *operatorCheck) rewrite(m *measured) error {
	file := filepath.Join(c.Dir, "operator.xml")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if len(costElement.FindAll(b, -1)) != 1 {
		return fmt.Errorf("%s: want one element <cost .../> to write into", file)
	}
	cost := fmt.Sprintf(`<cost cpu="%.4g" latency="%v" memory="%d" quality="%.2f"`, max(m.CPU, 0.0005),
		max(time.Duration(float64(m.P99)*1.2).Round(time.Millisecond), time.Millisecond), max(m.Memory*5/4, 1<<20), math.Floor(m.Quality*100)/100)
	if m.Declared.Price > 0 {
		cost += fmt.Sprintf(` price="%g"`, m.Declared.Price)
	}
	return os.WriteFile(file, costElement.ReplaceAll(b, []byte(cost+"/>")), 0o644)
}
