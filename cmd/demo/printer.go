package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"ninja/apc"
)

// printer shows the demo to a person.
type printer struct{ quiet bool }

func (p *printer) title(s string) { p.print("%s\n%s\n", s, strings.Repeat("=", len(s))) }

func (p *printer) act(format string, args ...any) { p.print("\n-- "+format+"\n", args...) }

func (p *printer) line(format string, args ...any) { p.print("   "+format+"\n", args...) }

func (p *printer) print(format string, args ...any) {
	if !p.quiet {
		fmt.Printf(format, args...)
	}
}

// text indents what a tool printed.
func (p *printer) text(s string) {
	for _, line := range strings.Split(strings.TrimRight(s, "\n"), "\n") {
		p.print("   %s\n", line)
	}
}

func (p *printer) found(title, table string) {
	if title != "" {
		p.act("Found in the SDS: %s", title)
	}
	p.text(table)
}

// event shows what happened, with the time.
func (p *printer) event(e apc.Event) {
	words := map[string]string{
		"said": "the telephone has spoken", "recognised": "understood", "answer": "the map service answers",
		"speaking": "speaking", "first-sample": "the first sample of the answer", "heard": "the telephone has heard the answer",
	}
	what := words[e.NoteKind]
	if what == "" {
		what = e.Kind + " " + e.NoteKind
	}
	p.line("%s  %s: %s", e.Time.Format("15:04:05.000"), strings.TrimSpace(what), e.Text)
}

// path shows the running path: each step with what it took, each hop with what flowed.
func (p *printer) path(i apc.Info) {
	if p.quiet {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "   STEP\tNODE\tIN\tOUT\tTIME p50\tp99\tHOP TO THE NEXT\tLINK\tTYPE")
	for n, s := range i.Steps {
		hop, link, kind := "", "", ""
		if n < len(i.Hops) {
			h := i.Hops[n]
			hop, kind = h.Transport, h.Type.String()
			if h.Stats.Link > 0 {
				link = ms(h.Stats.Link)
			}
			if len(kind) > 60 {
				kind = kind[:57] + "..."
			}
		}
		fmt.Fprintf(w, "   %s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", s.Operator, s.Node.Name(), s.In, s.Out,
			ms(s.ProcessP50), ms(s.ProcessP99), hop, link, kind)
	}
	w.Flush()
}

// ms writes a duration as milliseconds.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}
