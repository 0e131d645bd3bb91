package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"ninja/ca"
	"ninja/sds"
	"ninja/sds/route"
	"ninja/sds/tree"
)

// wide asks beyond the server, as far as --scope says.
func (o *options) wide(ctx context.Context, t terminal, q sds.Query) int {
	if o.Explain || o.All {
		return failed(t, errors.New("--explain and --all speak of one server: they do not go with --scope and --trace"))
	}
	scope, err := route.ParseScope(o.Scope)
	if err != nil {
		return failed(t, err)
	}
	cfg, err := o.config(ctx, t)
	if err != nil {
		return failed(t, err)
	}
	client, err := tree.Dial(cfg)
	if err != nil {
		return failed(t, err)
	}
	defer client.Close()
	if o.Watch {
		return o.watch(ctx, t, scoped{client, scope}, q)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	a, err := client.Ask(ctx, q, tree.Options{Scope: scope, First: o.First})
	if err != nil {
		return failed(t, err)
	}
	if err := o.tell(t, a); err != nil {
		return failed(t, err)
	}
	return status(len(a.Found))
}

// scoped is a client whose watches have a scope.
type scoped struct {
	*tree.Client
	scope route.Scope
}

func (s scoped) Watch(ctx context.Context, q sds.Query, f func(sds.WatchEvent)) error {
	return s.Client.WatchAll(ctx, q, s.scope, func(e tree.WatchEvent) { f(e.WatchEvent) })
}

// tell writes what was found, then, to the other stream, what may be missing and the trace.
func (o *options) tell(t terminal, a *tree.Answer) error {
	found := make([]sds.Found, len(a.Found))
	for i, f := range a.Found {
		found[i] = f.Found
	}
	if o.Count {
		fmt.Fprintln(t.out, len(found))
	} else {
		w, err := o.writer(t)
		if err == nil {
			err = w.all(found)
		}
		if err != nil {
			return err
		}
	}
	if o.Trace && o.Output == "json" {
		return traceJSON(t.err, a)
	}
	if o.Trace {
		trace(t.err, a)
	}
	if missing := missing(a.Outcomes); len(missing) > 0 {
		fmt.Fprintln(t.err, "sdsquery: there may be more behind", plain(strings.Join(missing, ", ")))
	}
	return nil
}

// missing names the branches that did not answer.
func missing(outcomes []route.Outcome) (out []string) {
	for _, o := range outcomes {
		if !route.Complete([]route.Outcome{o}) {
			out = append(out, fmt.Sprintf("%s (%v)", o.Server, o.Status))
		}
	}
	return out
}

// trace writes the servers that were asked under those that asked them, and counts the others.
func trace(w io.Writer, a *tree.Answer) {
	below := make(map[ca.ID][]route.Outcome)
	count := make(map[route.Status]int)
	var top []route.Outcome
	for _, o := range a.Outcomes {
		count[o.Status]++
		if o.Via == o.Server {
			top = append(top, o)
		} else {
			below[o.Via] = append(below[o.Via], o)
		}
	}
	var write func(o route.Outcome, depth int)
	write = func(o route.Outcome, depth int) {
		way := []string{"v", "^", ""}[min(2, btoi(o.Up)+2*btoi(depth == 0))]
		line := fmt.Sprintf("%s%s %s  %v", strings.Repeat("  ", depth), way, o.Server, o.Status)
		switch o.Status {
		case route.Searched:
			line += fmt.Sprintf(", %d found in %v", o.Found, o.Took.Round(time.Microsecond))
		case route.Failed:
			line += ": " + o.Detail
		}
		if depth > 0 {
			line += fmt.Sprintf(", known as of %v ago", o.Age.Round(time.Millisecond))
		}
		fmt.Fprintln(w, plain(strings.TrimRight(line, " ")))
		next := below[o.Server]
		delete(below, o.Server)
		slices.SortFunc(next, func(a, b route.Outcome) int {
			return cmp.Or(cmp.Compare(btoi(b.Up), btoi(a.Up)), cmp.Compare(a.Server, b.Server))
		})
		for _, n := range next {
			write(n, depth+1)
		}
	}
	for _, o := range top {
		write(o, 0)
	}
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%d %v", count[s], s))
	}
	fmt.Fprintf(w, "%d found in %v: %s\n", len(a.Found), a.Took.Round(time.Microsecond), strings.Join(parts, ", "))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// traceJSON writes the outcomes as one array.
func traceJSON(w io.Writer, a *tree.Answer) error {
	type line struct {
		Server    ca.ID   `json:"server"`
		Via       ca.ID   `json:"via"`
		Hierarchy string  `json:"hierarchy,omitempty"`
		Parent    bool    `json:"parent"`
		Status    string  `json:"status"`
		Stale     bool    `json:"stale"`
		Age       float64 `json:"age_seconds"`
		Found     int     `json:"found"`
		Took      float64 `json:"took_seconds"`
		Detail    string  `json:"detail,omitempty"`
	}
	all := []line{}
	for _, o := range a.Outcomes {
		all = append(all, line{o.Server, o.Via, o.Hierarchy, o.Up, o.Status.String(), o.Stale, o.Age.Seconds(), o.Found, o.Took.Seconds(), o.Detail})
	}
	return json.NewEncoder(w).Encode(all)
}
