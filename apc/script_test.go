package apc

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/capability"
	"ninja/operators"
	"ninja/operators/host"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

// TestScripts runs the stories in testdata over a real SDS server and creator: who publishes what, and what the creator
// tells whom. A paragraph is a command, its lines, "----" and what is expected, up to an empty line.
//
//	publish OWNER KIND NAME [cores=N] [region=R] [load=N] [rtt.R=SECONDS] [for=WHO] [external=NETWORK:PORTS]   and a line for each operator:
//	  NAME: IN -> OUT [latency=D] [cpu=N] [quality=N]
//	allow OWNER NAME WHO      hide it from all others
//	withdraw OWNER NAME
//	report N NODE OPERATOR p99=D
//	plan USER LINE            the chain, or the refusal
//	explain USER LINE         text
//	links USER
//	create USER LINE          a path, on nodes that do as they are told; there is one at a time
//	wait D                    a while passes
//	kill NODE                 its connections break, and a neighbour in the path says so
//	show                      the path: state, chain, and how often and why it was made anew
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer synctest.Wait()
				defer cancel()
				w := newTown()
				d := newDomain(ctx, t, func(c *Config) { c.Open = w.open })
				d.town = w
				runScript(ctx, t, d, f)
			})
		})
	}
}

func runScript(ctx context.Context, t *testing.T, d *domain, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, par := range strings.Split(strings.TrimSpace(string(b)), "\n\n") {
		command, want, isCommand := strings.Cut(par, "\n----")
		if !isCommand {
			out = append(out, par) // prose
			continue
		}
		got, want := strings.TrimSpace(d.do(ctx, command)), strings.TrimSpace(want)
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

// who reads everyone, group:NAME or user/NAME.
func (d *domain) who(s string) capability.Who {
	if kind, name, ok := strings.Cut(s, "/"); ok {
		return capability.Who(d.id(kind, name).ID())
	}
	return capability.Who(s)
}

func (d *domain) owner(s string) *ca.Identity {
	kind, name, _ := strings.Cut(s, "/")
	return d.id(kind, name)
}

func (d *domain) do(ctx context.Context, command string) string {
	lines := strings.Split(command, "\n")
	f := strings.Fields(lines[0])
	defer func() { time.Sleep(2 * time.Second) }() // what is told by numbers is told a moment later
	switch f[0] {
	case "publish":
		return d.doPublish(f, lines[1:])
	case "allow":
		d.allow(d.owner(f[1]), f[2], d.who(f[3]))
	case "withdraw":
		d.server.Withdraw(d.owner(f[1]).ID(), f[2], d.version)
		synctest.Wait()
	case "report":
		return d.doReport(f)
	case "plan":
		info, err := d.plan(ctx, d.id(ca.KindUser, f[1]), strings.Join(f[2:], " "))
		if err != nil {
			return err.Error()
		}
		var chain []string
		for _, s := range info.Steps {
			chain = append(chain, s.Operator+"@"+s.Node.Name())
		}
		return fmt.Sprintf("%s\nlatency %v", strings.Join(chain, " ! "), info.Cost.Latency)
	case "explain":
		r := Request{Line: strings.Join(f[2:], " "), Capability: d.token(ctx, d.id(ca.KindUser, f[1]), capability.Narrowing{})}
		e, err := d.creator.Explain(ctx, ca.Peer{ID: d.id(ca.KindUser, f[1]).ID()}, r)
		if err != nil {
			return err.Error()
		}
		return e.text()
	case "links":
		user := d.id(ca.KindUser, f[1])
		c, err := d.creator.Catalogue(ctx, asPeer(user), d.token(ctx, user, capability.Narrowing{}))
		if err != nil {
			return err.Error()
		}
		var all []string
		for _, l := range c.Links {
			all = append(all, fmt.Sprintf("%s - %s %v", l.From, l.To, l.Latency))
		}
		return strings.Join(all, "\n")
	case "create":
		user := d.id(ca.KindUser, f[1])
		d.walker = user.ID()
		r := Request{Path: id, Line: strings.Join(f[2:], " "), Capability: d.token(ctx, user, capability.Narrowing{Path: id})}
		if _, err := d.creator.Create(ctx, asPeer(user), r); err != nil {
			return err.Error()
		}
		return d.doShow()
	case "wait":
		long, err := time.ParseDuration(f[1])
		if err != nil {
			return err.Error()
		}
		time.Sleep(long)
	case "kill":
		return d.doKill(d.owner(f[1]).ID())
	case "show":
		return d.doShow()
	default:
		return "unknown command " + f[0]
	}
	return "ok"
}

func (d *domain) doPublish(f, lines []string) string {
	node := &operators.Node{Control: "c:1", Data: "d:1", Cores: 4}
	description := operators.Description{Kind: f[2], Name: f[3], Node: node}
	numbers, who := make(map[string]float64), []capability.Who{capability.Everyone}
	for _, option := range f[4:] {
		key, value, _ := strings.Cut(option, "=")
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case key == "region":
			node.Region = value
		case key == "external":
			node.External = value
		case key == "for":
			who = []capability.Who{d.who(value)}
		case err != nil:
			return err.Error()
		case key == "cores":
			node.Cores = n
		default:
			numbers[key] = n
		}
	}
	for _, line := range lines {
		s, err := readSpec(line)
		if err != nil {
			return err.Error()
		}
		description.Operators = append(description.Operators, s)
	}
	d.publish(d.owner(f[1]), description, numbers, who...)
	return "ok"
}

func readSpec(line string) (operators.Spec, error) {
	f := strings.Fields(line)
	if len(f) < 4 || f[2] != "->" {
		return operators.Spec{}, fmt.Errorf("%q: want NAME: IN -> OUT", line)
	}
	none := func(s string) string { return strings.Trim(s, "-") }
	s := spec(strings.TrimSuffix(f[0], ":"), none(f[1]), none(f[3]))
	for _, option := range f[4:] {
		key, value, _ := strings.Cut(option, "=")
		var err error
		switch key {
		case "latency":
			err = s.Cost.Latency.UnmarshalText([]byte(value))
		case "cpu":
			s.Cost.CPU, err = strconv.ParseFloat(value, 64)
		case "quality":
			s.Cost.Quality, err = strconv.ParseFloat(value, 64)
		default:
			err = fmt.Errorf("unknown option %q", option)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

func (d *domain) doReport(f []string) string {
	times, err := strconv.Atoi(f[1])
	if err != nil {
		return err.Error()
	}
	p99, err := time.ParseDuration(strings.TrimPrefix(f[4], "p99="))
	if err != nil {
		return err.Error()
	}
	node := d.owner(f[2]).ID()
	for _, l := range d.creator.views {
		for name, g := range l.view.groups {
			if g.spec.Name != f[3] || !slices.Contains(slices.Collect(maps.Values(g.at)), node) {
				continue
			}
			for range times {
				d.creator.learned.report(name, node, host.StageStats{Process: p99 / 2, ProcessP99: p99, CPU: g.spec.Cost.CPU}, g.spec.Cost)
			}
			return "ok"
		}
	}
	return "nobody sees it"
}

func (d *domain) doKill(node ca.ID) string {
	info, err := d.creator.Show(d.walker, id)
	if err != nil {
		return err.Error()
	}
	var neighbours []ca.ID
	for i, s := range info.Steps {
		for _, j := range []int{i - 1, i + 1} {
			if s.Node == node && j >= 0 && j < len(info.Steps) && info.Steps[j].Node != node && !slices.Contains(neighbours, info.Steps[j].Node) {
				neighbours = append(neighbours, info.Steps[j].Node)
			}
		}
	}
	d.town.kill(node, neighbours[0]) // one says so first; which is a matter of luck elsewhere
	return "ok"
}

// doShow tells what stays the same from run to run: no times.
func (d *domain) doShow() string {
	info, err := d.creator.Show(d.walker, id)
	if err != nil {
		return err.Error()
	}
	b := blueprint{steps: info.Steps}
	out := fmt.Sprintf("%s, epoch %d, repaired %d times, moved %d times\n%s\n", info.State, info.Epoch, info.Repairs, info.Moved, b.where())
	if info.Why != "" {
		out += "because " + short(info.Why) + "\n"
	}
	for _, m := range info.Moves {
		out += fmt.Sprintf("epoch %d, %s: %s; now at a cost of %.3f: %s\n", m.Epoch, m.Cause, short(m.Why), m.After, m.Steps)
	}
	if o := info.Outlook; o != nil {
		out += fmt.Sprintf("the running plan costs %.3f, the best %.3f: %s\n", o.Now, o.Best, short(o.Text))
	}
	return out
}
