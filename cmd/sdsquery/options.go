package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/check"
	"ninja/sds/terms"
)

// about is the text of --help.
const about = `Asks the service discovery service what there is, of what you may find.

Terms are conjoined. NAME is an attribute of a description's root element or an element directly in it; a path such as
node/@cores or //operator/@name reaches further. Quote < and > from the shell.

  sdsquery kind=printer 'floor<4'        NAME=VALUE NAME!=VALUE NAME<NUMBER <= > >=
  sdsquery name=~lobby kind='a|b'        NAME=~PART contains; a|b is one of
  sdsquery node                          NAME alone: there is one
  sdsquery -f template.xml               a partial document; - is standard input
  sdsquery --xpath "//operator[@name='resample']"
  sdsquery --scope all --trace kind=printer     everywhere, and which servers were asked
  sdsquery --all --lean -c floor kind=printer   every one, page by page, of each only the floor

Exit status: 0 something was found, 1 nothing was, 2 the question could not be asked.`

// The exit statuses.
const (
	exitFound  = 0
	exitNone   = 1
	exitFailed = 2
)

// options are the command line.
type options struct {
	Terms      []string           `arg:"" optional:"" help:"Quick terms, such as kind=printer 'floor<4'."`
	File       string             `short:"f" placeholder:"FILE" help:"A template: a partial description."`
	XPath      string             `name:"xpath" help:"An XPath expression of the supported subset."`
	Namespace  map[string]string  `short:"n" placeholder:"PREFIX=NAME" help:"Prefixes that --xpath uses."`
	By         string             `placeholder:"ID" help:"Only services of this owner."`
	Output     string             `short:"o" enum:"table,xml,json" default:"table" help:"table, xml or json."`
	Columns    []string           `short:"c" placeholder:"PATH" help:"More columns of the table: named numbers, or paths such as floor or node/@cores."`
	Sort       string             `short:"s" placeholder:"WHAT" help:"A named number or a path; --sort=-WHAT is descending."`
	Limit      int                `short:"l" placeholder:"N" help:"At most so many; with --all, so many at a time."`
	All        bool               `help:"All there are, page by page."`
	Lean       bool               `help:"Only the --columns, cut out by the server: less to carry, but its word, without the owners' signatures."`
	Step       map[string]float64 `placeholder:"NAME=STEP" help:"With --watch: also tell when this named number has moved by STEP."`
	Count      bool               `help:"Only say how many."`
	Explain    bool               `help:"Say how the answer is found, instead of the answer."`
	Watch      bool               `short:"w" help:"Go on: tell what enters (+), changes (~) and leaves (-)."`
	Scope      string             `enum:"local,domain,all" default:"local" help:"How far to ask: local is the server alone, domain the servers of its domain, all wherever its hierarchies lead."`
	First      bool               `help:"With --scope: as many as --limit says, whichever are found first."`
	Trace      bool               `help:"With --scope: also tell which servers were asked, which not and why, and how long each took."`
	Home       string             `env:"NINJA_HOME" placeholder:"DIR" help:"Where your identity is (~/.ninja), made by ninjactl join."`
	Server     string             `env:"NINJA_SDS" placeholder:"HOST:PORT" help:"The SDS server; else it is found by listening."`
	Manager    string             `env:"NINJA_CAPABILITY" placeholder:"HOST:PORT" help:"The capability manager; else it is found by listening."`
	Completion string             `enum:",bash,zsh,fish" default:"" placeholder:"SHELL" help:"Write what has bash, zsh or fish complete the command line: source <(sdsquery --completion bash)."`
	Timeout    time.Duration      `default:"10s" help:"How long to wait for the answer."`
}

// terminal is where the command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
	width    int // columns; 0: do not cut
}

// finder is what the command needs of sds.Client.
type finder interface {
	Page(ctx context.Context, q sds.Query) (sds.Page, error)
	Count(ctx context.Context, q sds.Query) (int, error)
	Explain(ctx context.Context, q sds.Query) (sds.Explanation, error)
	Watch(ctx context.Context, q sds.Query, f func(sds.WatchEvent)) error
}

// main asks, writes and returns the exit status.
func (o *options) main(ctx context.Context, t terminal) int {
	q, err := o.query(t.in)
	if err != nil {
		return failed(t, err)
	}
	if o.Scope != "local" || o.Trace {
		return o.wide(ctx, t, q)
	}
	client, err := o.dial(ctx, t)
	if err != nil {
		return failed(t, err)
	}
	defer client.Close()
	return o.ask(ctx, t, client, q)
}

func failed(t terminal, err error) int {
	fmt.Fprintln(t.err, "sdsquery:", plain(err.Error()))
	return exitFailed
}

// query makes the question of the options.
func (o *options) query(in io.Reader) (sds.Query, error) {
	q := sds.Query{XPath: o.XPath, Namespaces: o.Namespace, By: ca.ID(o.By), Limit: o.Limit, OrderBy: o.Sort}
	if what, ok := strings.CutPrefix(o.Sort, "-"); ok {
		q.OrderBy, q.Descending = what, true
	}
	if o.Limit < 0 {
		return q, fmt.Errorf("--limit %d: a number from 1 is wanted", o.Limit)
	}
	if len(o.Step) > 0 && !o.Watch {
		return q, errors.New("--step goes with --watch")
	}
	if q.Steps = o.Step; o.Lean {
		if len(o.Columns) == 0 || o.Output == "xml" || o.Watch {
			return q, errors.New("--lean wants --columns, and goes with the table and json only")
		}
		q.Select = o.Columns
	}
	if o.By != "" {
		if _, err := ca.ParseID(o.By); err != nil {
			return q, fmt.Errorf("--by: %w", err)
		}
	}
	if len(o.Terms) > 0 {
		if o.XPath != "" {
			return q, errors.New("terms and --xpath do not go together: write the terms into the expression")
		}
		var err error
		if q.XPath, err = terms.XPath(o.Terms); err != nil {
			return q, err
		}
	}
	var err error
	if o.File != "" {
		q.Template, err = o.template(in)
	}
	return q, err
}

func (o *options) template(in io.Reader) ([]byte, error) {
	if o.File != "-" {
		f, err := os.Open(o.File)
		if err != nil {
			return nil, fmt.Errorf("template: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, check.MaxBytes+1))
	if err == nil {
		_, err = check.Parse(b)
	}
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", o.File, err)
	}
	return b, nil
}

// ask puts the question and writes the answer.
func (o *options) ask(ctx context.Context, t terminal, client finder, q sds.Query) int {
	if o.Watch {
		return o.watch(ctx, t, client, q)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if o.Count {
		n, err := client.Count(ctx, q)
		if err != nil {
			return failed(t, err)
		}
		if o.Output == "json" {
			err = jsonWriter{out: t.out}.write(map[string]int{"count": n}, "")
		} else {
			_, err = fmt.Fprintln(t.out, n)
		}
		if err != nil {
			return failed(t, err)
		}
		return status(n)
	}
	if o.Explain {
		x, err := client.Explain(ctx, q)
		if err != nil {
			return failed(t, err)
		}
		if o.Output == "json" {
			err = jsonWriter{out: t.out}.write(explained(x), "  ")
		} else {
			explain(t.out, x)
		}
		if err != nil {
			return failed(t, err)
		}
		return status(x.Found)
	}
	return o.list(ctx, t, client, q)
}

// list writes what is found, and says when that is not all.
func (o *options) list(ctx context.Context, t terminal, client finder, q sds.Query) int {
	w, err := o.writer(t)
	if err != nil {
		return failed(t, err)
	}
	p, err := client.Page(ctx, q)
	found := p.Found
	for o.All && err == nil && p.More && len(p.Cursor) > 0 {
		q.After = p.Cursor
		p, err = client.Page(ctx, q)
		found = append(found, p.Found...)
	}
	if err == nil {
		err = w.all(found)
	}
	if err != nil {
		return failed(t, err)
	}
	if p.More {
		fmt.Fprintf(t.err, "sdsquery: these are the first %d; there are more: --all tells all, --limit N more of them\n", len(found))
	}
	return status(len(found))
}

// explanation is sds.Explanation in JSON.
type explanation struct {
	Classes  int               `json:"classes"`
	Services int               `json:"services"`
	Verified int               `json:"verified"`
	Found    int               `json:"found"`
	Parts    []explanationPart `json:"parts"`
}

type explanationPart struct {
	What   string `json:"what"`
	Size   int    `json:"size"`
	Opened int    `json:"opened"`
}

func explained(x sds.Explanation) explanation {
	out := explanation{x.Classes, x.Services, x.Verified, x.Found, []explanationPart{}}
	for _, p := range x.Parts {
		out.Parts = append(out.Parts, explanationPart{p.What, p.Size, p.Opened})
	}
	return out
}

// explain writes how an answer is found.
func explain(out io.Writer, x sds.Explanation) {
	fmt.Fprintf(out, "you may find %d services, in %d visibility classes\n", x.Services, x.Classes)
	for _, p := range x.Parts {
		mark := ""
		if p.Opened > 0 {
			mark = "  <- looked up"
		}
		fmt.Fprintf(out, "  %s: %d%s\n", plain(p.What), p.Size, mark)
	}
	if len(x.Parts) == 0 {
		fmt.Fprintln(out, "  nothing of the question is in the index: each one is looked at")
	}
	fmt.Fprintf(out, "%d were looked at, %d match\n", x.Verified, x.Found)
}

func status(n int) int {
	if n == 0 {
		return exitNone
	}
	return exitFound
}

// watch writes events until it is interrupted.
func (o *options) watch(ctx context.Context, t terminal, client finder, q sds.Query) int {
	w, err := o.writer(t)
	if err != nil {
		return failed(t, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	some := false
	err = client.Watch(ctx, q, func(e sds.WatchEvent) {
		some = some || e.Kind == sds.Enter
		if err := w.event(e); err != nil {
			cancel(err)
		}
	})
	switch {
	case ctx.Err() == nil:
		return failed(t, err)
	case !errors.Is(context.Cause(ctx), context.Canceled):
		return failed(t, context.Cause(ctx))
	case !some:
		return exitNone
	}
	return exitFound
}
