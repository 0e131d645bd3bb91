package apc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ninja/apc/plan"
	"ninja/ca"
)

// offer is a thing as a request can name it: what it is and what it has for a path.
type offer struct {
	service, kind string
	operators     []plan.Operator
}

// name is the offer's name within its owner.
func (o *offer) name() string {
	_, name, _ := strings.Cut(o.service, "#")
	return name
}

// word is one word of a request, taken apart. rtp://IP:PORT/TYPE is an address outside the system; KIND:NAME is a thing of that kind and name, OWNER#NAME the thing of that
// id, ?KIND anything of the kind, ?@N whatever the N-th template of the request matches; behind a name, /OPERATOR picks
// one of the thing's operators.
type word struct {
	plan.Word
	kind, name, id string
	raw            *raw
	template       []byte
	matches        map[string]bool // ids that the SDS found for the template
}

// maxWord bounds one word of a request.
const maxWord = 512

// readWord takes a word apart; the error names it.
func readWord(w plan.Word, templates [][]byte) (word, error) {
	out := word{Word: w}
	if len(w.Text) > maxWord {
		return out, fmt.Errorf("%w: %.40q…: a word of %d bytes; at most %d are allowed", ErrBadRequest, w.String(), len(w.Text), maxWord)
	}
	if number, ok := strings.CutPrefix(w.Text, "@"); ok && w.Find {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(templates) {
			return out, fmt.Errorf("%w: %q: %d templates came with the request", ErrBadRequest, w.String(), len(templates))
		}
		out.template = templates[n-1]
		return out, nil
	}
	if strings.Contains(w.Text, "://") && !strings.HasPrefix(w.Text, "spiffe://") {
		var err error
		if out.raw, err = readRaw(w.Text); err == nil && w.Find {
			err = fmt.Errorf("? finds a kind; an address is written without it")
		}
		if err != nil {
			return out, fmt.Errorf("%w: %q: %w", ErrBadRequest, w.String(), err)
		}
		return out, nil
	}
	if owner, _, ok := strings.Cut(w.Text, "#"); ok {
		if w.Find {
			return out, fmt.Errorf("%w: %s: ? finds a kind; a service id is written without it", ErrBadRequest, strconv.Quote(w.String()))
		}
		if _, err := ca.ParseID(owner); err != nil {
			return out, fmt.Errorf("%w: %q: before # stands the owner: %w", ErrBadRequest, w.Text, err)
		}
		out.id = w.Text
		return out, nil
	}
	var ok bool
	out.kind, out.name, ok = strings.Cut(w.Text, ":")
	switch {
	case out.kind == "" || ok && out.name == "":
		return out, fmt.Errorf("%w: %q: want KIND:NAME, a service id OWNER#NAME, ?KIND, or rtp://IP:PORT/TYPE", ErrBadRequest, w.String())
	case !ok && !w.Find:
		return out, fmt.Errorf("%w: %q: want KIND:NAME or a service id OWNER#NAME; ?%s finds one of the kind", ErrBadRequest, w.Text, w.Text)
	}
	return out, nil
}

// readWords checks all words of a request and lists each once.
func readWords(f *plan.Form, templates [][]byte) ([]word, error) {
	all := []plan.Word{f.From, f.To}
	for _, s := range f.Include {
		all = append(all, s.Word)
	}
	var words []word
	for i, w := range all {
		if slices.Contains(all[:i], w) {
			continue
		}
		parsed, err := readWord(w, templates)
		if err != nil {
			return nil, err
		}
		if parsed.raw != nil && slices.ContainsFunc(f.Include, func(s plan.FormStep) bool { return s.Word == w }) {
			return nil, fmt.Errorf("%w: %q: an address is an endpoint, not a step between", ErrBadRequest, w.String())
		}
		words = append(words, parsed)
	}
	return words, nil
}

// pick returns those of the offers that the word means, with the operators that it means. Names may hold a slash: the
// whole is tried before the last part is taken for an operator.
func (w *word) pick(offers []offer) []offer {
	var whole, part []offer
	for _, o := range offers {
		if w.template != nil {
			if w.matches[o.service] {
				whole = append(whole, o)
			}
			continue
		}
		text, want := o.name(), w.name
		if w.id != "" {
			text, want = o.service, w.id
		} else if o.kind != w.kind {
			continue
		}
		if want == "" || want == text {
			whole = append(whole, o)
			continue
		}
		operator, ok := strings.CutPrefix(want, text+"/")
		if !ok {
			continue
		}
		o.operators = slices.DeleteFunc(slices.Clone(o.operators), func(p plan.Operator) bool { return p.Spec.Name != operator })
		if len(o.operators) > 0 {
			part = append(part, o)
		}
	}
	if whole != nil {
		return whole
	}
	return part
}

// resolve names the planner's operators for the words of a form; those of raw addresses have names already. The error is a
// *plan.Refusal in ErrRefused.
func resolve(f *plan.Form, words []word, meant func(plan.Word) []offer) (plan.Request, error) {
	r := plan.Request{Bounds: f.Bounds, Weights: f.Weights, Steps: f.Steps}
	var err error
	end := func(w plan.Word, source bool) (string, error) {
		if slices.ContainsFunc(words, func(x word) bool { return x.Word == w && x.raw != nil }) {
			return rawName(w, source), nil
		}
		return endpoint(w, meant(w), source)
	}
	if r.From, err = end(f.From, true); err != nil {
		return r, err
	}
	if r.To, err = end(f.To, false); err != nil {
		return r, err
	}
	for _, s := range f.Include {
		q, err := requirement(s.Word, meant(s.Word))
		if err != nil {
			return r, err
		}
		q.After = s.After
		r.Include = append(r.Include, q)
	}
	return r, nil
}

// endpoint picks the operator that a request's end means: one thing, one operator without input (or without output).
func endpoint(w plan.Word, offers []offer, source bool) (string, error) {
	var names []string
	for _, o := range offers {
		for _, p := range o.operators {
			if source && p.Spec.In.IsZero() || !source && p.Spec.Out.IsZero() {
				names = append(names, p.Name)
			}
		}
	}
	what := "takes data in"
	if source {
		what = "gives data out"
	}
	switch len(names) {
	case 1:
		return names[0], nil
	case 0:
		return "", unknown(w, "nothing that you may find is called %s and %s (%s shows what is there)", w.Text, what, sdsquery(w))
	}
	slices.Sort(names)
	return "", unknown(w, "%s means %d things (%s): name one", w.Text, len(names), strings.Join(names, ", "))
}

// requirement lists the operators that meet a required step.
func requirement(w plan.Word, offers []offer) (plan.Requirement, error) {
	r := plan.Requirement{Label: w.String()}
	for _, o := range offers {
		for _, p := range o.operators {
			if !p.Spec.In.IsZero() && !p.Spec.Out.IsZero() && !slices.Contains(r.Any, p.Name) {
				r.Any = append(r.Any, p.Name)
			}
		}
	}
	if r.Any == nil {
		return r, unknown(w, "no service that you may find is a %s (%s shows what is there)", w.Text, sdsquery(w))
	}
	slices.Sort(r.Any)
	return r, nil
}

func unknown(w plan.Word, format string, args ...any) error {
	return refused(&plan.Refusal{Reason: plan.UnknownName, Subject: w.String(), Text: fmt.Sprintf(format, args...)})
}

// sdsquery is the command that shows what a word could have meant.
func sdsquery(w plan.Word) string {
	if strings.HasPrefix(w.Text, "@") {
		return "sdsquery with the template"
	}
	if owner, _, ok := strings.Cut(w.Text, "#"); ok {
		return "sdsquery --by " + owner
	}
	kind, name, _ := strings.Cut(w.Text, ":")
	if name == "" {
		return "sdsquery kind=" + kind
	}
	return "sdsquery kind=" + kind + " name=" + name
}

// lineOf writes a request like that of a form, with other bounds, order, steps or fewer requirements, as a form is written.
func lineOf(f *plan.Form, r *plan.Request) string {
	g := *f
	g.Bounds, g.Steps, g.Include = r.Bounds, r.Steps, nil
	for _, q := range r.Include {
		text, find := strings.CutPrefix(q.Label, "?")
		g.Include = append(g.Include, plan.FormStep{Word: plan.Word{Find: find, Text: text}, After: q.After})
	}
	return formLine(&g)
}

// before is how many of the required steps come before the i-th: equal for those that stand together.
func before(steps []plan.FormStep, i int) int {
	seen := make(map[int]bool)
	var walk func(int)
	walk = func(i int) {
		for _, a := range steps[i].After {
			if !seen[a] {
				seen[a] = true
				walk(a)
			}
		}
	}
	walk(i)
	return len(seen)
}

// formLine writes what plan.ParseForm reads.
func formLine(f *plan.Form) string {
	var out strings.Builder
	out.WriteString(f.From.String())
	for i, s := range f.Include {
		sep := " ! "
		if i > 0 && before(f.Include, i) == before(f.Include, i-1) {
			sep = " & "
		}
		out.WriteString(sep + s.String())
	}
	out.WriteString(" ! " + f.To.String())
	b := f.Bounds
	if b.Latency > 0 {
		fmt.Fprintf(&out, " latency<%v", b.Latency)
	}
	for _, x := range []struct {
		key string
		n   float64
	}{{"cpu<", b.CPU}, {"memory<", float64(b.Memory)}, {"price<", b.Price}, {"quality>", b.Quality}} {
		if x.n > 0 {
			out.WriteString(" " + x.key + strconv.FormatFloat(x.n, 'f', -1, 64))
		}
	}
	if f.Steps > 0 {
		fmt.Fprintf(&out, " steps<%d", f.Steps+1)
	}
	for _, d := range b.Domains {
		out.WriteString(" domain=" + d)
	}
	if w := f.Weights; w != (plan.Weights{}) {
		for _, x := range []struct {
			key string
			n   float64
		}{{"latency", w.Latency}, {"cpu", w.CPU}, {"memory", w.Memory}, {"price", w.Price}, {"quality", w.Quality}, {"load", w.Load}, {"steps", w.Steps}, {"data", w.Data}} {
			out.WriteString(" weight:" + x.key + "=" + strconv.FormatFloat(x.n, 'f', -1, 64))
		}
	}
	return out.String()
}
