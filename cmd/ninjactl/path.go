package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"ninja/apc"
	"ninja/cmd/home"
	"ninja/internal/world"
	"ninja/operators"
)

type pathCommand struct {
	Plan   pathPlan   `cmd:"" help:"Say what would be made, and at what cost; make nothing."`
	Create pathCreate `cmd:"" help:"Make a path; it runs until it is deleted or its source ends."`
	List   pathList   `cmd:"" help:"List your paths."`
	Show   pathShow   `cmd:"" help:"Show a path and what was measured in it."`
	Renew  pathRenew  `cmd:"" help:"Let a path run on: it ends with the capability that it was made or renewed with."`
	Watch  pathWatch  `cmd:"" help:"Print what happens in a path until it has ended."`
	Delete pathDelete `cmd:"" help:"Take a path down."`
}

// output is how results are printed.
type output struct {
	Output string `enum:"text,json" default:"text" help:"text or json."`
}

// print writes v as JSON, or has it written for a person.
func (o output) print(v any, person func(io.Writer)) error {
	if o.Output == "json" {
		e := json.NewEncoder(os.Stdout)
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	person(w)
	return w.Flush()
}

// asked is what a path is asked for with.
type asked struct {
	Request string   `arg:"" help:"Two ends and what must lie between, as in 'phone:lobby ! ?map-directions ! phone:lobby latency<2s'. A word is KIND:NAME, OWNER#NAME or ?KIND."`
	From    string   `help:"Where the user is, LAT,LON; the default is what the unit says." placeholder:"LAT,LON"`
	Require []string `help:"A file with a partial description; the request says ?@1 for what the first one matches, ?@2 for the second." type:"existingfile" placeholder:"FILE"`
}

type request struct {
	asked
	output
}

func (r *asked) request() (apc.Request, error) {
	q := apc.Request{Line: r.Request}
	for _, file := range r.Require {
		t, err := os.ReadFile(file)
		if err != nil {
			return q, err
		}
		q.Templates = append(q.Templates, t)
	}
	if r.From == "" {
		return q, nil
	}
	lat, lon, ok := strings.Cut(r.From, ",")
	a, errA := strconv.ParseFloat(lat, 64)
	b, errB := strconv.ParseFloat(lon, 64)
	if !ok || errA != nil || errB != nil || a < -90 || a > 90 || b < -180 || b > 180 {
		return q, fmt.Errorf("--from %q: want LATITUDE,LONGITUDE in degrees, as in 39.16,-75.52", r.From)
	}
	q.Position = &operators.Position{Lat: a, Lon: b}
	return q, nil
}

type pathPlan struct {
	asked
	Explain   bool   `help:"Say what the best plan costs, what proves it, and why its rivals lost; or what made the request impossible."`
	Catalogue string `help:"Plan with a file that ninjactl catalogue wrote; ask nobody. Explains." type:"existingfile" placeholder:"FILE"`
	Output    string `enum:"text,json,dot,mermaid" default:"text" help:"text, json, dot or mermaid."`
}

func (p *pathPlan) Run(ctx context.Context, c *commands) error {
	if p.Catalogue != "" {
		return p.dry(ctx)
	}
	q, err := p.request()
	if err != nil {
		return err
	}
	p.Explain = p.Explain || p.Output == apc.DOT || p.Output == apc.Mermaid // there are no other graphs
	creator, err := openCreator(ctx, c)
	if err != nil {
		return err
	}
	defer creator.Close()
	if p.Explain {
		e, err := creator.Explain(ctx, q)
		if err != nil {
			return err
		}
		return p.print(e)
	}
	info, err := creator.Plan(ctx, q)
	if err != nil {
		return err
	}
	return output{p.Output}.print(info, func(w io.Writer) { printPlan(w, info) })
}

// dry plans with a catalogue file.
func (p *pathPlan) dry(ctx context.Context) error {
	if len(p.Require) > 0 {
		return errors.New("--require: what a template matches only the SDS knows; leave --catalogue out")
	}
	f, err := os.Open(p.Catalogue)
	if err != nil {
		return err
	}
	defer f.Close()
	catalogue, err := apc.ReadCatalogue(f)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Catalogue, err)
	}
	e, err := catalogue.Explain(ctx, p.Request)
	if err != nil {
		return err
	}
	return p.print(e)
}

// print writes an explanation; a refusal is an error to the shell, whatever was printed.
func (p *pathPlan) print(e apc.Explanation) error {
	text, err := e.Render(p.Output)
	if err != nil {
		return err
	}
	fmt.Print(text)
	if e.Refusal != nil {
		return apc.ErrRefused
	}
	return nil
}

func openCreator(ctx context.Context, c *commands) (*apc.Client, error) {
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return nil, err
	}
	return h.Creator(ctx)
}

// reference is external data in a type, by service and hash.
var reference = regexp.MustCompile(`spiffe://[^/]+/([^@;]*)@sha256:([0-9a-f]{8})[0-9a-f]{56}`)

// briefly writes a type without the domains and with the beginnings of hashes.
func briefly(kind string) string { return reference.ReplaceAllString(kind, "$1@sha256:$2") }

// printPlan shows the chain with types and costs.
func printPlan(w io.Writer, i apc.Info) {
	fmt.Fprintln(w, "STEP\tNODE\tLATENCY\tCPU\tQUALITY\tTHEN BY\tTYPE")
	for n, s := range i.Steps {
		by, kind := "", ""
		if n < len(i.Hops) {
			by, kind = i.Hops[n].Transport, i.Hops[n].Type.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%v\t%.3f\t%.2f\t%s\t%s\n", s.Operator, s.Node.Kind()+"/"+s.Node.Name(), s.Cost.Latency, s.Cost.CPU, s.Cost.Quality, by, briefly(kind))
	}
	fmt.Fprintf(w, "\nin all: latency %v (sum of p99), cpu %.3f, memory %d MiB, quality %.3f; planned in %v (search %v)\n%s\n",
		i.Cost.Latency.Round(time.Microsecond), i.Cost.CPU, i.Cost.Memory>>20, i.Cost.Quality, i.PlanTime.Round(10*time.Microsecond), i.Search, i.Explanation)
}

type pathCreate struct {
	request
	Watch bool `help:"Print what happens, and renew the path, until it has ended; an interrupt takes it down."`
}

func (p *pathCreate) Run(ctx context.Context, c *commands) error {
	q, err := p.request.request()
	if err != nil {
		return err
	}
	h, err := home.Open(ctx, c.Home)
	if err != nil {
		return err
	}
	creator, err := h.Creator(ctx)
	if err != nil {
		return err
	}
	defer creator.Close()
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	q.Path = hex.EncodeToString(name[:])
	info, err := creator.Create(ctx, q)
	if err != nil {
		return err
	}
	err = p.print(info, func(w io.Writer) {
		fmt.Fprintf(w, "path %s runs: planned in %v, set up in %v\n", info.Path, info.PlanTime.Round(10*time.Microsecond), info.SetUp.Round(10*time.Microsecond))
		if !p.Watch {
			fmt.Fprintf(w, "it ends at %s unless ninjactl path renew %s is run before\n", clock(info.Expires), info.Path)
		}
	})
	if err != nil || !p.Watch {
		return err
	}
	go h.Fresh(ctx)
	go renew(ctx, creator, info)
	if err := watch(ctx, creator, info.Path, p.output); ctx.Err() == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	_, err = creator.Delete(ctx, info.Path)
	return err
}

// renew renews a path after each half of what is left of its life, until ctx ends or the path has.
func renew(ctx context.Context, creator *apc.Client, info apc.Info) {
	for {
		wait := max(time.Until(info.Expires)/2, 10*time.Second)
		if world.Sleep(ctx, wait) != nil {
			return
		}
		next, err := creator.Renew(ctx, info.Path)
		switch {
		case err == nil:
			info = next
		case errors.Is(err, apc.ErrNoPath) || ctx.Err() != nil:
			return
		default:
			fmt.Fprintf(os.Stderr, "ninjactl: the path was not renewed, and ends at %s: %v\n", clock(info.Expires), err)
		}
	}
}

// clock is a time of day for a person.
func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }

// watch prints what happens in a path until it has ended. A watch ends with the certificates that opened it, and begins
// anew where it was.
func watch(ctx context.Context, creator *apc.Client, path string, o output) error {
	var last time.Time
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		told := last
		err := creator.Watch(ctx, path, func(e apc.Event) error {
			if !e.Time.After(told) {
				return nil
			}
			last, wait = e.Time, time.Second
			return o.print(e, func(w io.Writer) {
				who := e.Stage
				if who == "" {
					who = "path"
				}
				if e.NoteKind != "" {
					e.Kind += " " + e.NoteKind
				}
				fmt.Fprintf(w, "%s  %s  %s: %s\n", e.Time.Local().Format("15:04:05.000"), who, e.Kind, e.Text)
			})
		})
		if err == nil || ctx.Err() != nil || !apc.Lost(err) {
			return err
		}
		if world.Sleep(ctx, wait) != nil {
			return err
		}
	}
}

type pathList struct{ output }

func (p *pathList) Run(ctx context.Context, c *commands) error {
	creator, err := openCreator(ctx, c)
	if err != nil {
		return err
	}
	defer creator.Close()
	all, err := creator.List(ctx)
	if err != nil {
		return err
	}
	return p.print(all, func(w io.Writer) {
		fmt.Fprintln(w, "PATH\tSTATE\tSINCE\tREQUEST")
		for _, i := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Path, i.State, i.Created.Format(time.DateTime), i.Request)
		}
	})
}

// one names a path.
type one struct {
	Path string `arg:"" help:"The path's name, as path list prints it."`
	output
}

type pathShow struct{ one }

func (p *pathShow) Run(ctx context.Context, c *commands) error {
	creator, err := openCreator(ctx, c)
	if err != nil {
		return err
	}
	defer creator.Close()
	info, err := creator.Show(ctx, p.Path)
	if err != nil {
		return err
	}
	return p.print(info, func(w io.Writer) { printPath(w, info) })
}

// printPath shows what was planned and measured of a path, and how often and why it was made anew.
func printPath(w io.Writer, i apc.Info) {
	fmt.Fprintf(w, "path %s of %s: %s", i.Path, i.Owner, i.State)
	if i.Why != "" {
		fmt.Fprintf(w, " (%s)", i.Why)
	}
	fmt.Fprintf(w, "\n%s\n\n", i.Request)
	fmt.Fprintln(w, "STEP\tNODE\tIN\tOUT\tTIME p50\tp99\tPLANNED\tTHEN BY\tLINK\tLOST\tTYPE")
	for n, s := range i.Steps {
		by, link, lost, kind := "", "", "", ""
		if n < len(i.Hops) {
			h := i.Hops[n]
			by, kind, lost = h.Transport, h.Type.String(), strconv.FormatUint(h.Stats.Lost, 10)
			link = h.Stats.Link.Round(time.Microsecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%v\t%v\t%v\t%s\t%s\t%s\t%s\n", s.Operator, s.Node.Kind()+"/"+s.Node.Name(), s.In, s.Out,
			s.ProcessP50, s.ProcessP99, s.Cost.Latency, by, link, lost, briefly(kind))
	}
	fmt.Fprintf(w, "\nplan: cost %.3f, latency %v (sum of p99); measured: %v of processing (sum of p99) and links\n", i.Score,
		i.Cost.Latency.Round(time.Microsecond), i.Measured().Round(time.Microsecond))
	fmt.Fprintf(w, "epoch %d, repaired %d times, moved %d times; %d spare plans", i.Epoch, i.Repairs, i.Moved, i.Spares)
	if !i.Expires.IsZero() {
		fmt.Fprintf(w, "; may run until %s", clock(i.Expires))
	}
	fmt.Fprintln(w)
	for _, m := range i.Moves {
		before := fmt.Sprintf("from %.3f ", m.Before)
		if m.Before < 0 {
			before = ""
		}
		fmt.Fprintf(w, "  %s  epoch %d  %s: %s\n            cost %sto %.3f, gap %v: %s\n", clock(m.Time), m.Epoch, m.Cause, m.Why, before, m.After,
			m.Gap.Round(100*time.Microsecond), m.Steps)
	}
	if o := i.Outlook; o != nil {
		now := "does not work any more"
		if o.Now >= 0 {
			now = fmt.Sprintf("costs %.3f", o.Now)
		}
		fmt.Fprintf(w, "looked at %s: the running plan %s, the best %.3f: %s\n", clock(o.Time), now, o.Best, o.Text)
	}
}

type pathRenew struct{ one }

func (p *pathRenew) Run(ctx context.Context, c *commands) error {
	creator, err := openCreator(ctx, c)
	if err != nil {
		return err
	}
	defer creator.Close()
	info, err := creator.Renew(ctx, p.Path)
	if err != nil {
		return err
	}
	return p.print(info, func(w io.Writer) { fmt.Fprintf(w, "path %s may run until %s\n", info.Path, clock(info.Expires)) })
}

type pathWatch struct{ one }

func (p *pathWatch) Run(ctx context.Context, c *commands) error {
	creator, err := openCreator(ctx, c)
	if err != nil {
		return err
	}
	defer creator.Close()
	return watch(ctx, creator, p.Path, p.output)
}

type pathDelete struct{ one }

func (p *pathDelete) Run(ctx context.Context, c *commands) error {
	creator, err := openCreator(ctx, c)
	if err != nil {
		return err
	}
	defer creator.Close()
	info, err := creator.Delete(ctx, p.Path)
	if err != nil {
		return err
	}
	return p.print(info, func(w io.Writer) { fmt.Fprintf(w, "path %s is gone: %s\n", info.Path, info.Why) })
}
