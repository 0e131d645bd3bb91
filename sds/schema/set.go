package schema

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ninja/sds/check"
)

// Set is the schemas that a server knows. The zero Set is empty. It is safe for use by many goroutines.
type Set struct {
	// Keep stores what Add takes, before it is known to the Set, so that it is there after a restart; nil keeps nothing.
	// It is not called for what was known before. Set it before the Set is shared.
	Keep func(name string, version uint32, text []byte) error

	adding sync.Mutex // held by Add, also while Keep works; documents are checked meanwhile
	mu     sync.RWMutex
	by     map[string]registered // by NAME/VERSION
}

type registered struct {
	name    string
	version uint32
	text    []byte
	*Schema
}

// Info names a schema.
type Info struct {
	Name    string
	Version uint32
	Size    int // bytes of its text
}

// MaxSchemas bounds a Set.
const MaxSchemas = 1024

// Add takes a version of a schema, beside others of its name. A version never changes: the same again does nothing,
// another text is refused.
func (s *Set) Add(name string, version uint32, text []byte) error {
	if !isName(name) || len(name) > check.MaxName || version == 0 {
		return fmt.Errorf("schema %.40q version %d: want a name of letters, digits and . - _, and a version from 1", name, version)
	}
	parsed, err := Parse(text)
	if err != nil {
		return fmt.Errorf("schema %s/%d: %w", name, version, err)
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	key := keyOf(name, version)
	if old, ok := s.Text(name, version); ok {
		if bytes.Equal(old, text) {
			return nil
		}
		return fmt.Errorf("schema %s is known with another text: register a changed schema as a new version", key)
	}
	if len(s.by) == MaxSchemas { // only Add writes it
		return fmt.Errorf("schema %s: %d schemas are known already", key, MaxSchemas)
	}
	if s.Keep != nil {
		if err := s.Keep(name, version, text); err != nil {
			return fmt.Errorf("schema %s is not registered, because it could not be kept: %w", key, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[string]registered)
	}
	s.by[key] = registered{name, version, bytes.Clone(text), parsed}
	return nil
}

// List is what is known, by name and version; name "" is all.
func (s *Set) List(name string) []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Info
	for _, r := range s.by {
		if name == "" || r.name == name {
			out = append(out, Info{r.name, r.version, len(r.text)})
		}
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version)) })
	return out
}

// Text is a schema as it was registered.
func (s *Set) Text(name string, version uint32) (text []byte, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.by[keyOf(name, version)]
	return bytes.Clone(r.text), ok
}

func keyOf(name string, version uint32) string {
	return name + "/" + strconv.FormatUint(uint64(version), 10)
}

// Check holds a document against the schema that it claims; one that claims none passes. The error is Errors, or says
// that the schema is not known.
func (s *Set) Check(d *check.Document) error {
	claim, ok := Claim(d)
	if !ok {
		return nil
	}
	s.mu.RLock()
	found := s.by[claim]
	s.mu.RUnlock()
	if found.Schema == nil {
		return fmt.Errorf("the schema %.80q is not known: register it, or claim one of %s", claim, strings.Join(s.versions(claim), ", "))
	}
	if err := found.Check(d); err != nil {
		return fmt.Errorf("schema %s: %w", claim, err)
	}
	return nil
}

// versions are those of the name in a claim.
func (s *Set) versions(claim string) []string {
	name, _, _ := strings.Cut(claim, "/")
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for key := range s.by {
		if strings.HasPrefix(key, name+"/") {
			out = append(out, key)
		}
	}
	if len(out) == 0 {
		return []string{"none by this name"}
	}
	slices.Sort(out)
	return out
}
