package plan

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// MaxForm bounds the text of a request on one line.
const MaxForm = 4096

// Form is a request on one line, parsed; its words stand for things that the caller looks up.
//
//	phone:lobby ! ?map-directions ! phone:lobby latency<500ms cpu<2 quality>0.5
//
// Words between ! come in that order; those joined by & in any order. A word with ? before it is a kind to be found, one
// without is a name or an address outside the system; what is between is found by types. Bounds and weights follow the last word: latency<DURATION,
// cpu<CORES, memory<BYTES (with k, M, G: powers of 1024), price<NUMBER, quality>NUMBER, steps<NUMBER, domain=NAME (again
// for more), and weight:latency=NUMBER and so on for each field of Weights (the others keep their default).
type Form struct {
	From, To Word
	Include  []FormStep
	Bounds   Bounds
	Weights  Weights // zero when no weight was given
	Steps    int
}

// Word is a name, or a kind to be found.
type Word struct {
	Find bool
	Text string
}

// String is the word as it is written.
func (w Word) String() string {
	if w.Find {
		return "?" + w.Text
	}
	return w.Text
}

// FormStep is a required step; After are the positions in Form.Include of those that come before it.
type FormStep struct {
	Word
	After []int
}

// ParseForm reads a request on one line. Errors say which word is wrong and what is wanted.
func ParseForm(s string) (*Form, error) {
	if len(s) > MaxForm {
		return nil, fmt.Errorf("request of %d bytes: at most %d are allowed", len(s), MaxForm)
	}
	groups := strings.Split(s, "!")
	if len(groups) < 2 {
		return nil, fmt.Errorf("request %q: want two endpoints with ! between: phone:lobby ! ?map-directions ! phone:lobby", s)
	}
	f := &Form{}
	var err error
	if f.From, err = parseWord(groups[0]); err != nil {
		return nil, err
	}
	var before []int
	for _, g := range groups[1 : len(groups)-1] {
		var now []int
		for _, text := range strings.Split(g, "&") {
			w, err := parseWord(text)
			if err != nil {
				return nil, err
			}
			now = append(now, len(f.Include))
			f.Include = append(f.Include, FormStep{w, before})
		}
		before = now
	}
	if len(f.Include) > MaxRequired {
		return nil, fmt.Errorf("%d required steps: at most %d are allowed", len(f.Include), MaxRequired)
	}
	last := strings.Fields(groups[len(groups)-1])
	if len(last) == 0 {
		return nil, fmt.Errorf("request %q: want an endpoint after the last \"!\"", s)
	}
	if f.To, err = parseWord(last[0]); err != nil {
		return nil, err
	}
	for _, option := range last[1:] {
		if err := f.option(option); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func parseWord(s string) (Word, error) {
	w := Word{Text: strings.TrimSpace(s)}
	if rest, ok := strings.CutPrefix(w.Text, "?"); ok {
		w = Word{true, rest}
	}
	equals := "="
	if strings.Contains(w.Text, "://") { // an address with a type: rtp://10.0.0.7:5004/audio/L16;rate=16000
		equals = ""
	}
	if w.Text == "" || strings.ContainsAny(w.Text, equals+"?!&<> \t\r\n\v\f") || strings.ContainsFunc(w.Text, func(r rune) bool { return r < ' ' || r == 0xfffd || r == 0x85 || r == 0xa0 }) {
		return w, fmt.Errorf("%q: want one name, or ? and a kind, between each \"!\"", s)
	}
	return w, nil
}

// option reads one bound or weight.
func (f *Form) option(s string) error {
	i := strings.IndexAny(s, "<>=")
	if i < 0 {
		return fmt.Errorf("%q: want a bound such as latency<500ms, or a weight such as weight:latency=2", s)
	}
	key, value := s[:i+1], s[i+1:]
	var err error
	b := &f.Bounds
	switch key {
	case "latency<":
		b.Latency, err = time.ParseDuration(value)
		if err == nil && b.Latency <= 0 {
			err = fmt.Errorf("want a duration above zero")
		}
	case "cpu<":
		err = positive(value, &b.CPU)
	case "memory<":
		b.Memory, err = parseBytes(value)
	case "price<":
		err = positive(value, &b.Price)
	case "quality>":
		if err = positive(value, &b.Quality); err == nil && b.Quality > 1 {
			err = fmt.Errorf("want at most 1")
		}
	case "steps<":
		if f.Steps, err = strconv.Atoi(value); err == nil {
			if f.Steps--; f.Steps < 1 || f.Steps > MaxSteps {
				err = fmt.Errorf("want 2 to %d", MaxSteps+1)
			}
		}
	case "domain=":
		if value == "" {
			err = fmt.Errorf("want a domain")
		}
		b.Domains = append(b.Domains, value)
	default:
		err = f.weight(key, value)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", s, err)
	}
	return nil
}

func (f *Form) weight(key, value string) error {
	if f.Weights == (Weights{}) {
		f.Weights = DefaultWeights()
	}
	w := &f.Weights
	field, ok := map[string]*float64{
		"weight:latency=": &w.Latency, "weight:cpu=": &w.CPU, "weight:memory=": &w.Memory, "weight:price=": &w.Price,
		"weight:quality=": &w.Quality, "weight:load=": &w.Load, "weight:steps=": &w.Steps, "weight:data=": &w.Data,
	}[key]
	if !ok {
		return fmt.Errorf("want latency<, cpu<, memory<, price<, quality>, steps<, domain= or weight:NAME=")
	}
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || !proper(n) {
		return fmt.Errorf("want a finite number that is not negative")
	}
	*field = n
	return nil
}

func positive(s string, to *float64) error {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !proper(n) || n == 0 {
		return fmt.Errorf("want a finite number above zero")
	}
	*to = n
	return nil
}

// parseBytes reads 1500, 64k, 200M, 1.5G, also with iB or B behind.
func parseBytes(s string) (int64, error) {
	s = strings.TrimSuffix(strings.TrimSuffix(s, "B"), "i")
	unit := 1.0
	if n := len(s) - 1; n > 0 {
		if u := strings.IndexByte("kMGT", s[n]); u >= 0 {
			unit = float64(int64(1) << (10 * (u + 1)))
			s = s[:n]
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !proper(n) || n*unit < 1 || n*unit > 1<<60 {
		return 0, fmt.Errorf("want bytes, such as 200M")
	}
	return int64(n * unit), nil
}
