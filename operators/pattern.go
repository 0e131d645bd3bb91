package operators

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"ninja/connectors"
)

// Pattern is a set of types with variables, written like a type:
//
//	audio/L16;rate=8000|16000;channels=$c      a set; a variable
//	audio/L16;rate=$r:4000..192000             a variable within a range
//	text/plain;lang=en;about=*                 any value, but there must be one
//
// A variable that stands in an operator's input and output pattern has one value in both: so parameters flow through.
// An input pattern leaves parameters that it does not name free; an output pattern has exactly those that it names.
type Pattern struct {
	media  string
	params []patternParam // in order of name
}

type patternParam struct {
	name     string
	variable string // "" when there is none
	domain   domain
}

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	media, params, err := connectors.SplitType(s)
	if err != nil {
		return Pattern{}, err
	}
	p := Pattern{media: media}
	for _, param := range params {
		pp := patternParam{name: param.Name}
		text := param.Value
		if rest, ok := strings.CutPrefix(text, "$"); ok {
			pp.variable, text, ok = strings.Cut(rest, ":")
			if !ok {
				text = "*"
			}
			if pp.variable == "" || strings.ContainsAny(pp.variable, "$*|") {
				return Pattern{}, fmt.Errorf("pattern %q: parameter %s wants a name after the $", s, param.Name)
			}
		}
		if pp.domain, err = parseDomain(text); err != nil {
			return Pattern{}, fmt.Errorf("pattern %q: parameter %s: %w", s, param.Name, err)
		}
		p.params = append(p.params, pp)
	}
	slices.SortFunc(p.params, func(a, b patternParam) int { return strings.Compare(a.name, b.name) })
	return p, nil
}

// MustPattern is ParsePattern for patterns written in the program; it panics on an error.
func MustPattern(s string) Pattern {
	p, err := ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

// PatternOf is the pattern that only t fits.
func PatternOf(t connectors.Type) Pattern {
	p := Pattern{media: t.Media()}
	for _, param := range t.Params() {
		p.params = append(p.params, patternParam{name: param.Name, domain: domain{values: []string{param.Value}}})
	}
	return p
}

// IsZero reports whether p is no pattern: that of a source's input or a sink's output.
func (p Pattern) IsZero() bool { return p.media == "" }

// Media is the media type that the pattern fixes.
func (p Pattern) Media() string { return p.media }

// Param is the text of a parameter's pattern as in String, "" when the pattern does not name it.
func (p Pattern) Param(name string) string {
	for _, pp := range p.params {
		if pp.name == name {
			return pp.String()
		}
	}
	return ""
}

// Values lists the values that a parameter may have when they are few enough to be listed, in the pattern's order of
// preference; nil when it may have any, or any of a range, or when the pattern does not name it.
func (p Pattern) Values(name string) []string {
	for _, pp := range p.params {
		if pp.name == name {
			return slices.Clone(pp.domain.values)
		}
	}
	return nil
}

// String is the one-line form, parameters in order of name.
func (p Pattern) String() string {
	var b strings.Builder
	b.WriteString(p.media)
	for _, pp := range p.params {
		b.WriteString(";" + pp.name + "=" + pp.String())
	}
	return b.String()
}

func (pp patternParam) String() string {
	switch {
	case pp.variable == "":
		return pp.domain.String()
	case pp.domain.any():
		return "$" + pp.variable
	default:
		return "$" + pp.variable + ":" + pp.domain.String()
	}
}

// MarshalText and UnmarshalText use the one-line form.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the one-line form; empty text is no pattern.
func (p *Pattern) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	if text == "" {
		*p = Pattern{}
		return nil
	}
	parsed, err := ParsePattern(text)
	if err == nil {
		*p = parsed
	}
	return err
}

// domain is a set of values: those listed, or those in a numeric range, or all (the zero domain).
type domain struct {
	values []string
	lo, hi float64
	ranged bool
}

func parseDomain(s string) (domain, error) {
	if s == "*" {
		return domain{}, nil
	}
	if lo, hi, ok := strings.Cut(s, ".."); ok {
		a, errA := strconv.ParseFloat(lo, 64)
		b, errB := strconv.ParseFloat(hi, 64)
		if errA != nil || errB != nil || !(a <= b) || math.IsInf(a, 0) || math.IsInf(b, 0) {
			return domain{}, fmt.Errorf("range %q wants two numbers, the smaller one first", s)
		}
		return domain{lo: a, hi: b, ranged: true}, nil
	}
	values := strings.Split(s, "|")
	for i, v := range values {
		if v == "" || strings.ContainsAny(v, "$*") || slices.Contains(values[:i], v) {
			return domain{}, fmt.Errorf("set %q wants distinct values with | between them", s)
		}
	}
	return domain{values: values}, nil
}

func (d domain) any() bool { return d.values == nil && !d.ranged }

func (d domain) String() string {
	switch {
	case d.any():
		return "*"
	case d.ranged:
		return number(d.lo) + ".." + number(d.hi)
	default:
		return strings.Join(d.values, "|")
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// words is the domain as a sentence says it: "8000 or 16000", "4000 to 192000", "any value".
func (d domain) words() string {
	switch {
	case d.any():
		return "any value"
	case d.ranged:
		return number(d.lo) + " to " + number(d.hi)
	case len(d.values) == 1:
		return d.values[0]
	default:
		n := len(d.values) - 1
		return strings.Join(d.values[:n], ", ") + " or " + d.values[n]
	}
}

func (d domain) has(v string) bool {
	if d.ranged {
		f, err := strconv.ParseFloat(v, 64)
		return err == nil && d.lo <= f && f <= d.hi
	}
	return d.any() || slices.Contains(d.values, v)
}

// and is what both sets hold, in the order of the second, which is the one that wants; none when that is nothing.
func (d domain) and(e domain) domain {
	switch {
	case d.any():
		return e
	case e.any():
		return d
	case d.ranged && e.ranged:
		return domain{lo: max(d.lo, e.lo), hi: min(d.hi, e.hi), ranged: true}
	case e.ranged:
		d, e = e, d
	}
	both := domain{values: []string{}}
	for _, v := range e.values {
		if d.has(v) {
			both.values = append(both.values, v)
		}
	}
	return both
}

// none reports whether the set is empty. No parsed pattern has an empty one; an intersection may.
func (d domain) none() bool {
	return d.ranged && d.lo > d.hi || d.values != nil && len(d.values) == 0
}

// pick is the value taken when nothing decides: the first of a set, the lower end of a range; "" when any would do.
func (d domain) pick() string {
	switch {
	case d.ranged:
		return number(d.lo)
	case len(d.values) > 0:
		return d.values[0]
	}
	return ""
}

// Variable is the name of the variable that a parameter's pattern has, "" when it has none.
func (p Pattern) Variable(name string) string {
	for _, pp := range p.params {
		if pp.name == name {
			return pp.variable
		}
	}
	return ""
}

// Names lists the parameters that the pattern names, in order.
func (p Pattern) Names() []string {
	names := make([]string, len(p.params))
	for i, pp := range p.params {
		names[i] = pp.name
	}
	return names
}
