package connectors

import (
	"fmt"
	"slices"
	"strings"
)

// Type is the type of what flows: a media type with parameters, such as "audio/L16;channels=1;rate=16000". What a
// thing means is a parameter too ("text/plain;about=address;lang=en"), and so is the external data it depends on
// ("grammar=SERVICE@sha256:HASH"). Types are values: equal when their String is equal. The zero Type is no type.
type Type struct {
	s string // canonical: parameters in order of name
}

// Bounds of a type's text.
const (
	MaxTypeLength = 1024
	MaxTypeParams = 16
)

// ParseType reads a type. Names are lower case, values keep their case; parameters may come in any order.
func ParseType(s string) (Type, error) {
	media, params, err := SplitType(s)
	if err != nil {
		return Type{}, err
	}
	for _, p := range params {
		if p.Value == "" || strings.ContainsAny(p.Value, "$*|") || strings.Contains(p.Value, "..") {
			return Type{}, fmt.Errorf("type %q: parameter %s=%s is a pattern, not a value", s, p.Name, p.Value)
		}
	}
	return MakeType(media, params...), nil
}

// MustType is ParseType for types written in the program; it panics on an error.
func MustType(s string) Type {
	t, err := ParseType(s)
	if err != nil {
		panic(err)
	}
	return t
}

// Param is one parameter of a type.
type Param struct{ Name, Value string }

// MakeType builds a type of parts that SplitType would accept.
func MakeType(media string, params ...Param) Type {
	params = slices.Clone(params)
	slices.SortFunc(params, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	var b strings.Builder
	b.WriteString(media)
	for _, p := range params {
		b.WriteString(";" + p.Name + "=" + p.Value)
	}
	return Type{b.String()}
}

// SplitType cuts the text of a type, or of a pattern over types, into its media type and its parameters in their order.
func SplitType(s string) (media string, params []Param, err error) {
	if len(s) > MaxTypeLength {
		return "", nil, fmt.Errorf("type of %d bytes: at most %d are allowed", len(s), MaxTypeLength)
	}
	parts := strings.Split(s, ";")
	if len(parts)-1 > MaxTypeParams {
		return "", nil, fmt.Errorf("type with %d parameters: at most %d are allowed", len(parts)-1, MaxTypeParams)
	}
	media = strings.TrimSpace(parts[0])
	top, sub, ok := strings.Cut(media, "/")
	if !ok || !token(top) || !token(sub) {
		return "", nil, fmt.Errorf("type %q: want a media type such as audio/L16 before the parameters", s)
	}
	for _, part := range parts[1:] {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || !token(name) || name != strings.ToLower(name) || !printable(value) {
			return "", nil, fmt.Errorf("type %q: want name=value, with a lower-case name, in place of %q", s, part)
		}
		if slices.ContainsFunc(params, func(p Param) bool { return p.Name == name }) {
			return "", nil, fmt.Errorf("type %q: parameter %s stands there twice", s, name)
		}
		params = append(params, Param{name, value})
	}
	return media, params, nil
}

// String is the one-line form, parameters in order of name.
func (t Type) String() string { return t.s }

// IsZero reports whether t is no type.
func (t Type) IsZero() bool { return t.s == "" }

// Media is the type without its parameters.
func (t Type) Media() string {
	media, _, _ := strings.Cut(t.s, ";")
	return media
}

// Params lists the parameters in order of name.
func (t Type) Params() []Param {
	if t.s == "" {
		return nil
	}
	_, params, err := SplitType(t.s)
	if err != nil {
		panic(err) // a Type is only made of what SplitType accepts
	}
	return params
}

// Get returns a parameter's value, "" when there is none.
func (t Type) Get(name string) string {
	for _, p := range t.Params() {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// MarshalText and UnmarshalText use the one-line form.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.s), nil }

// UnmarshalText reads the one-line form.
func (t *Type) UnmarshalText(b []byte) error {
	parsed, err := ParseType(string(b))
	if err == nil {
		*t = parsed
	}
	return err
}

// token reports whether s is a token of RFC 2045 without the characters that patterns use.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?=$*|`, r)
	})
}

// printable reports whether s is a parameter value: visible ASCII without quotes, angle brackets and separators.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"'<>;=&\`, r)
	})
}
