// Package terms makes XPath expressions of quick terms, the short form in which people ask for services at a command line
// and in configurations:
//
//	kind=printer  floor<4  name=~lobby  kind=a|b  colour!=no  node/@cores>=4  //operator/@name=resample  scanner
//
// Terms are conjoined. NAME is an attribute of a description's root element or an element directly in it, a path with / or
// @ reaches further; NAME alone asks that there is one.
package terms

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// operators of quick terms, the longer ones first where one begins another.
var operators = []string{"!=", "<=", ">=", "=~", "=", "<", ">"}

// XPath makes an expression that index.XPath takes. Its error names the term that is wrong.
func XPath(terms []string) (string, error) {
	if len(terms) == 0 {
		return "", errors.New("no terms")
	}
	var tests []string
	for _, t := range terms {
		x, err := term(t)
		if err != nil {
			return "", err
		}
		tests = append(tests, x)
	}
	return "/*[" + strings.Join(tests, " and ") + "]", nil
}

// term makes the test of one term.
func term(t string) (string, error) {
	name, op, value := split(t)
	if name == "" {
		return "", fmt.Errorf("term %q begins with no name: write kind=printer, 'floor<4' or name=~lobby", t)
	}
	var places []string
	switch {
	case strings.HasPrefix(name, "//"):
		places = []string{"." + name}
	case strings.ContainsAny(name, "/@"):
		places = []string{strings.TrimPrefix(name, "/")}
	default:
		places = []string{"@" + name, name}
	}
	if op == "!=" {
		x, err := anyOf(t, places, "=", value)
		return "not(" + x + ")", err
	}
	return anyOf(t, places, op, value)
}

// split takes a term apart at its first operator.
func split(t string) (name, op, value string) {
	at := strings.IndexAny(t, "!<>=")
	if at < 0 {
		return t, "", ""
	}
	for _, o := range operators {
		if strings.HasPrefix(t[at:], o) {
			return t[:at], o, t[at+len(o):]
		}
	}
	return "", "", ""
}

// anyOf is true when a place meets the operator with one of the values.
func anyOf(t string, places []string, op, value string) (string, error) {
	var tests []string
	for _, p := range places {
		switch op {
		case "":
			tests = append(tests, p)
		case "=", "=~":
			for v := range strings.SplitSeq(value, "|") {
				quoted, err := quote(t, v)
				if err != nil {
					return "", err
				}
				if op == "=" {
					tests = append(tests, p+"[normalize-space(.) = "+quoted+"]")
				} else {
					tests = append(tests, p+"[contains(., "+quoted+")]")
				}
			}
		default:
			if _, err := strconv.ParseFloat(value, 64); err != nil {
				return "", fmt.Errorf("term %q: a number is wanted behind %s", t, op)
			}
			quoted, err := quote(t, value)
			if err != nil {
				return "", err
			}
			tests = append(tests, p+" "+op+" "+quoted)
		}
	}
	return "(" + strings.Join(tests, " or ") + ")", nil
}

// quote makes a literal, which in XPath cannot hold both quotes.
func quote(t, v string) (string, error) {
	switch {
	case !strings.Contains(v, "'"):
		return "'" + v + "'", nil
	case !strings.Contains(v, `"`):
		return `"` + v + `"`, nil
	}
	return "", fmt.Errorf("term %q: a value with both kinds of quotes wants a template (-f)", t)
}
