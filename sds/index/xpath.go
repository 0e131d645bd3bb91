package index

import "errors"

// XPath compiles an expression.
func XPath(expr string, ns map[string]string) (*Query, error) {
	return nil, errors.New("not yet")
}
