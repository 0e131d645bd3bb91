package ca

import (
	"fmt"
	"net/url"
	"strings"
)

// ID names a principal: spiffe://DOMAIN/KIND/NAME (the form of SPIFFE). Make one with ParseID or MakeID.
type ID string

// Kinds of principals. What each may do is decided where it is done, by kind: only an SDS announces a server, only a
// creator commands paths, only a proxy hosts other people's operators.
const (
	KindCA         = "ca"
	KindCapability = "capability"
	KindSDS        = "sds"
	KindAPC        = "apc"
	KindProxy      = "proxy"
	KindBase       = "base"
	KindUnit       = "unit"
	KindUser       = "user"
)

// MaxIDLength bounds the text of an ID.
const MaxIDLength = 255

// MakeID joins the parts.
func MakeID(domain, kind, name string) (ID, error) {
	return ParseID("spiffe://" + domain + "/" + kind + "/" + name)
}

// ParseID checks the text of an ID: lower-case letters, digits, dot, dash and underscore in each of three parts.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, "spiffe://")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 || len(s) > MaxIDLength {
		return "", fmt.Errorf("identity %q: want spiffe://DOMAIN/KIND/NAME of at most %d bytes", s, MaxIDLength)
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.ContainsFunc(p, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
		}) {
			return "", fmt.Errorf("identity %q: %q wants lower-case letters, digits, '.', '-' and '_'", s, p)
		}
	}
	return ID(s), nil
}

// Domain, Kind and Name are the parts of the ID.
func (id ID) Domain() string { return id.part(0) }

// Kind is the second part.
func (id ID) Kind() string { return id.part(1) }

// Name is the third part.
func (id ID) Name() string { return id.part(2) }

func (id ID) part(i int) string {
	parts := strings.Split(strings.TrimPrefix(string(id), "spiffe://"), "/")
	if len(parts) != 3 {
		return ""
	}
	return parts[i]
}

// URL is the ID as certificates carry it.
func (id ID) URL() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.Domain(), Path: "/" + id.Kind() + "/" + id.Name()}
}
