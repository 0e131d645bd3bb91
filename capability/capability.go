// Package capability says who may find and use what: access control lists kept by the capability manager, capabilities
// that it issues, and the check of one against the other (ninja-architecture, 6.1: "the capability manager maintains
// access rights and distributes capabilities"; Czerwinski et al., MobiCom 1999, 3.4: "capabilities ... prove that a
// client is on the access control list of a service").
package capability

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"time"

	"ninja/ca"
)

// Operations is a set of things one may do with a service or endpoint.
type Operations uint8

// The operations.
const (
	Find       Operations = 1 << iota // learn that it exists and read its description
	Use                               // call it, or have a path lead through it
	ListenFrom                        // have a path take what the endpoint's device hears or sees
	SendTo                            // have a path deliver to the endpoint's device
)

// All is every operation: what an owner has.
const All = Find | Use | ListenFrom | SendTo

var operationNames = [...]string{"find", "use", "listen-from", "send-to"}

// String lists the operations, as in "find,use"; the empty set is "".
func (o Operations) String() string {
	var names []string
	for i, n := range operationNames {
		if o&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

// ParseOperations reads what String writes.
func ParseOperations(s string) (Operations, error) {
	var o Operations
	if s == "" {
		return 0, nil
	}
	for name := range strings.SplitSeq(s, ",") {
		i := slices.Index(operationNames[:], strings.TrimSpace(name))
		if i < 0 {
			return 0, fmt.Errorf("operation %q: want some of %s", name, All)
		}
		o |= 1 << i
	}
	return o, nil
}

// Who names whom an ACL entry is for: a principal's ID, "group:NAME", "group:DOMAIN/NAME" for a group of another domain
// that is trusted, or Everyone.
type Who string

// Everyone is every principal that the domain's certificate authority vouches for.
const Everyone Who = "everyone"

const groupPrefix = "group:"

// Group is the Who of a group.
func Group(name string) Who { return Who(groupPrefix + name) }

// group takes the Who of a group apart: its name, and its domain where that is another one.
func (w Who) group() (domain, name string, ok bool) {
	rest, ok := strings.CutPrefix(string(w), groupPrefix)
	if domain, name, foreign := strings.Cut(rest, "/"); foreign {
		return domain, name, ok
	}
	return "", rest, ok
}

// Domain is the domain that vouches for who it is: that of the principal, or of the group where that is another domain's.
// It is "" for groups of the domain itself and for Everyone.
func (w Who) Domain() string {
	if domain, _, ok := w.group(); ok {
		return domain
	}
	return ca.ID(w).Domain()
}

// abroad is how other domains know whom the Who names in its own, and whether they know it: they are told of no
// Everyone but their own.
func (w Who) abroad(domain string) (Who, bool) {
	if of, name, ok := w.group(); ok {
		return Group(domain + "/" + name), of == ""
	}
	return w, w != Everyone
}

// ParseWho checks the text of a Who.
func ParseWho(s string) (Who, error) {
	if s == string(Everyone) {
		return Everyone, nil
	}
	if rest, ok := strings.CutPrefix(s, groupPrefix); ok {
		domain, name, foreign := strings.Cut(rest, "/")
		if !foreign {
			return Who(s), checkGroupName(rest)
		}
		if _, err := ca.MakeID(domain, ca.KindUser, "any"); err != nil {
			return "", fmt.Errorf("group %q: want group:NAME, or group:DOMAIN/NAME for one of another domain", rest)
		}
		return Who(s), checkGroupName(name)
	}
	if _, err := ca.ParseID(s); err != nil {
		return "", fmt.Errorf("%w; or write %s, group:NAME or group:DOMAIN/NAME", err, Everyone)
	}
	return Who(s), nil
}

func checkGroupName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, notNameRune) {
		return fmt.Errorf("group %q: want at most %d lower-case letters, digits, '.', '-' and '_'", name, maxName)
	}
	return nil
}

func notNameRune(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
}

// maxName bounds the name of a group; maxService that of a service.
const (
	maxName    = 64
	maxService = 512
)

// ServiceID is the name under which a service is known everywhere: OWNER-ID#name.
func ServiceID(owner ca.ID, name string) string { return string(owner) + "#" + name }

// ParseService takes a service's ID apart.
func ParseService(service string) (owner ca.ID, name string, err error) {
	id, name, ok := strings.Cut(service, "#")
	if !ok || name == "" || len(service) > maxService ||
		strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", "", fmt.Errorf("service %q: want OWNER-ID#name of at most %d bytes, without spaces", service, maxService)
	}
	owner, err = ca.ParseID(id)
	return owner, name, err
}

// Entry grants operations to someone.
type Entry struct {
	Who Who
	Ops Operations
}

// String is the entry as ParseEntry reads it.
func (e Entry) String() string { return fmt.Sprintf("%s: %s", e.Who, e.Ops) }

// MaxEntries bounds an ACL. Larger sets of principals are groups.
const MaxEntries = 256

// ParseEntry reads an entry as people write it: WHO: OPERATION, ... as in "everyone: find, use".
func ParseEntry(text string) (Entry, error) {
	i := strings.LastIndex(text, ":")
	if i < 0 {
		return Entry{}, fmt.Errorf("acl %q: want WHO: OPERATION, ... with the operations find, use, listen-from, send-to", text)
	}
	ops, err := ParseOperations(strings.ReplaceAll(text[i+1:], " ", ""))
	if err != nil {
		return Entry{}, fmt.Errorf("acl %q: %w", text, err)
	}
	who, err := ParseWho(strings.TrimSpace(text[:i]))
	if err != nil {
		return Entry{}, fmt.Errorf("acl %q: %w", text, err)
	}
	return Entry{Who: who, Ops: ops}, nil
}

// ACL says who may do what with a service. Without an ACL only the owner may do anything; the owner may do everything
// always. An ACL can be set before the service is first announced. Values are shared: do not change one that was handed
// out.
type ACL struct {
	Service string // OWNER-ID#name
	Version uint64 // counts the changes, from 1
	Entries []Entry
}

// text is the ACL in a line, as for a configuration.
func (a *ACL) text() string {
	var entries []string
	for _, e := range a.Entries {
		entries = append(entries, e.String())
	}
	return strings.Join(entries, "; ")
}

// Check says what is wrong with the ACL.
func (a *ACL) Check() error {
	if _, _, err := ParseService(a.Service); err != nil {
		return err
	}
	if len(a.Entries) > MaxEntries {
		return fmt.Errorf("ACL of %s: %d entries, at most %d: use a group", a.Service, len(a.Entries), MaxEntries)
	}
	for i, e := range a.Entries {
		if _, err := ParseWho(string(e.Who)); err != nil {
			return fmt.Errorf("ACL of %s: %w", a.Service, err)
		}
		if e.Ops == 0 || e.Ops&^All != 0 {
			return fmt.Errorf("ACL of %s: entry of %s: want some of %s", a.Service, e.Who, All)
		}
		if slices.ContainsFunc(a.Entries[:i], func(f Entry) bool { return f.Who == e.Who }) {
			return fmt.Errorf("ACL of %s: two entries of %s", a.Service, e.Who)
		}
	}
	return nil
}

// With returns the ACL with the operations added to an entry (or taken from it), in a new value.
func (a *ACL) With(who Who, add, remove Operations) *ACL {
	next := &ACL{Service: a.Service, Version: a.Version}
	ops := add
	for _, e := range a.Entries {
		if e.Who == who {
			ops |= e.Ops
		} else {
			next.Entries = append(next.Entries, e)
		}
	}
	if ops &^= remove; ops != 0 {
		next.Entries = append(next.Entries, Entry{who, ops})
	}
	return next
}

// Claims is what a verified capability says.
type Claims struct {
	// Principal is on whose behalf the holder acts.
	Principal ca.ID
	// Grants are whom ACL entries may name to reach the principal: itself, its groups, everyone.
	Grants []Who
	// Ops are the operations that the capability is good for.
	Ops Operations
	// Expires is when it ends.
	Expires time.Time
	// Holder is the only key that may present it.
	Holder ed25519.PublicKey
	// Templates are conjoined to every query made with it.
	Templates [][]byte
	// Path is the one path that it is for; "" is any use.
	Path string
	// Epoch is the manager's revocation epoch when it was issued.
	Epoch uint64

	manager ed25519.PublicKey // who issued it
}

// Allowed says whether the claims are enough to do op (all of its bits) with a service of the owner under its ACL, nil
// if it has none.
func Allowed(c Claims, owner ca.ID, acl *ACL, op Operations) bool {
	if op == 0 || c.Ops&op != op {
		return false
	}
	if c.Principal == owner {
		return true
	}
	if acl == nil {
		return false
	}
	var granted Operations
	for _, e := range acl.Entries {
		if slices.Contains(c.Grants, e.Who) {
			granted |= e.Ops
		}
	}
	return granted&op == op
}
