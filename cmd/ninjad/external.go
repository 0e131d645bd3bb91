package main

import (
	"fmt"
	"strings"

	"ninja/operators"
)

// outside is what a proxy may reach outside the system, as it is published.
func (r *proxyRole) outside() (string, error) {
	var all []string
	for _, line := range r.External {
		e, err := operators.ParseExternal(line)
		if err != nil {
			return "", err
		}
		all = append(all, e.String())
	}
	text := strings.Join(all, " ")
	if len(text) > operators.MaxExternal {
		return "", fmt.Errorf("%d bytes: at most %d are published; name wider networks", len(text), operators.MaxExternal)
	}
	return text, nil
}
