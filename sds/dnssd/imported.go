package dnssd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"ninja/sds/check"
)

// imported is what is known of a link, as soft state. It has no clock, goroutine or socket.
type imported struct {
	types     map[name]string // by the key of the name to browse
	kinds     map[string]string
	most      int
	instances map[name]*instance // by key
	hosts     map[name]*address  // by key
}

// until is a time of expiry with the life that it was given, which says when to ask again.
type until struct {
	ends time.Time
	life time.Duration
}

// instance is one service.
type instance struct {
	name      name
	typ       string
	there     until // by its PTR
	located   until // by its SRV
	host      name
	port      uint16
	texts     []string
	heardText bool
	asked     bool // since it is known
	published []byte
}

type address struct {
	addr netip.Addr
	until
}

func newImported(types []string, kinds map[string]string, most int) *imported {
	s := &imported{
		types: map[name]string{}, kinds: kinds, most: most, instances: map[name]*instance{}, hosts: map[name]*address{},
	}
	for _, t := range types {
		s.types[browse(t).key()] = t
	}
	return s
}

// browse is the name under which the instances of a type are listed.
func browse(typ string) name { return name(typ) + "." + local }

// Bounds of a record's life, and what a goodbye leaves (RFC 6762, 10.1).
const (
	maxLife  = 75 * time.Minute
	farewell = time.Second
)

func lives(r record, now time.Time) until {
	life := min(time.Duration(r.ttl)*time.Second, maxLife)
	if r.ttl == 0 {
		life = farewell
	}
	return until{now.Add(life), life}
}

// take hears a message. Questions, and known answers in them, tell nothing.
func (s *imported) take(m message, now time.Time) {
	if !m.response {
		return
	}
	for _, r := range m.records {
		if r.typ == typePTR {
			s.takePTR(r, now)
		}
	}
	for _, r := range m.records {
		i := s.instances[r.name.key()]
		switch {
		case r.typ == typeSRV && i != nil && r.target.key() != "":
			i.host, i.port, i.located = r.target, r.port, lives(r, now)
		case r.typ == typeTXT && i != nil && r.ttl > 0:
			i.texts, i.heardText = r.texts, true
		}
	}
	told := map[name]bool{}
	for _, r := range m.records { // last: now it is known whose addresses are wanted
		key := r.name.key()
		// Of a host with several addresses one is taken, whatever their order.
		if r.typ == typeA && s.wanted(r.name) && !(told[key] && s.hosts[key].addr.Less(r.addr)) {
			s.hosts[key], told[key] = &address{r.addr, lives(r, now)}, true
		}
	}
}

func (s *imported) takePTR(r record, now time.Time) {
	typ, ok := s.types[r.name.key()]
	key := r.target.key()
	if !ok || !strings.HasSuffix(string(key), "."+string(r.name.key())) || len(r.target.labels()) != 4 {
		return
	}
	i := s.instances[key]
	switch {
	case i == nil && (r.ttl == 0 || len(s.instances) >= s.most):
		return
	case i == nil:
		i = &instance{name: r.target, typ: typ}
		s.instances[key] = i
	}
	i.there = lives(r, now)
}

func (s *imported) wanted(host name) bool {
	for _, i := range s.instances {
		if i.host.key() == host.key() {
			return true
		}
	}
	return false
}

// questions are what to ask now: who is there, and what is not known or more than half through its life. Known are the
// answers that nobody need give (RFC 6762, 7.1).
func (s *imported) questions(now time.Time) (questions []question, known []record) {
	stale := func(u until) bool { return u.ends.Sub(now) < u.life/2 }
	for _, browsed := range slices.Sorted(maps.Keys(s.types)) {
		questions = append(questions, question{browsed, typePTR})
	}
	for _, key := range slices.Sorted(maps.Keys(s.instances)) {
		i := s.instances[key]
		i.asked = true
		if !stale(i.there) {
			left := uint32(i.there.ends.Sub(now) / time.Second)
			known = append(known, record{name: browse(i.typ), typ: typePTR, ttl: left, target: i.name})
		}
		if stale(i.located) {
			questions = append(questions, question{i.name, typeSRV})
		}
		if !i.heardText || stale(i.located) {
			questions = append(questions, question{i.name, typeTXT})
		}
		if h := s.hosts[i.host.key()]; i.host != "" && (h == nil || stale(h.until)) {
			questions = append(questions, question{i.host, typeA})
		}
	}
	return questions, known
}

// change is a description to publish under a name.
type change struct {
	name        string
	description []byte
}

// look drops what has expired and says what has changed since the last look: descriptions that are new or other, names
// that are gone. Lacking is that something new has to be asked for.
func (s *imported) look(now time.Time) (changed []change, gone []string, lacking bool) {
	maps.DeleteFunc(s.hosts, func(key name, h *address) bool { return !now.Before(h.ends) || !s.wanted(key) })
	for _, key := range slices.Sorted(maps.Keys(s.instances)) {
		i := s.instances[key]
		h := s.hosts[i.host.key()]
		complete := now.Before(i.there.ends) && now.Before(i.located.ends) && h != nil && h.addr.IsValid()
		var description []byte
		if complete && !s.ours(i) {
			description = s.describe(i, h.addr)
		}
		switch {
		case description == nil && i.published != nil:
			gone = append(gone, i.id())
		case description != nil && !bytes.Equal(description, i.published):
			changed = append(changed, change{i.id(), description})
		}
		i.published = description
		lacking = lacking || !complete && !i.asked
		if !now.Before(i.there.ends) {
			delete(s.instances, key)
		}
	}
	return changed, gone, lacking
}

// all are the names that are published.
func (s *imported) all() (names []string) {
	for _, key := range slices.Sorted(maps.Keys(s.instances)) {
		if i := s.instances[key]; i.published != nil {
			names = append(names, i.id())
		}
	}
	return names
}

// ours are services that an Exporter shows.
func (s *imported) ours(i *instance) bool {
	return slices.ContainsFunc(i.texts, func(t string) bool { return strings.HasPrefix(t, mark) })
}

// id is the instance's name as a service: readable, and with a hash, since many names read alike.
func (i *instance) id() string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, i.name.labels()[0])
	hash := sha256.Sum256([]byte(i.name.key()))
	return "mdns." + strings.TrimPrefix(strings.Split(i.typ, ".")[0], "_") + "." + readable[:min(len(readable), 40)] + "." + hex.EncodeToString(hash[:4])
}

// describe writes the description of an instance, or nil if it cannot be one.
//
//	<service xmlns="urn:ninja:mdns:1" kind="ipp" name="Printer" origin="mdns">
//	  <dnssd type="_ipp._tcp" host="printer.local." address="192.0.2.7" port="631"/>
//	  <txt key="rp">ipp/print</txt>
//	</service>
func (s *imported) describe(i *instance, addr netip.Addr) []byte {
	kind := s.kinds[i.typ]
	if kind == "" {
		kind = strings.TrimPrefix(strings.Split(i.typ, ".")[0], "_")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<service xmlns=\"urn:ninja:mdns:1\" kind=%s name=%s origin=\"mdns\">\n", quote(kind), quote(i.name.labels()[0]))
	fmt.Fprintf(&b, "  <dnssd type=%s host=%s address=%s port=%s/>\n",
		quote(i.typ), quote(string(i.host)), quote(addr.String()), quote(strconv.Itoa(int(i.port))))
	for _, text := range i.texts {
		key, value, _ := strings.Cut(text, "=")
		if key != "" { // RFC 6763, 6.4
			fmt.Fprintf(&b, "  <txt key=%s>%s</txt>\n", quote(key), escape(value))
		}
	}
	b.WriteString("</service>\n")
	if _, err := check.Parse(b.Bytes()); err != nil {
		return nil
	}
	return b.Bytes()
}

// escape writes text so that any bytes are text of XML: what cannot be becomes U+FFFD.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(strings.ToValidUTF8(text, "\uFFFD"))) // a Builder does not fail
	return b.String()
}

func quote(text string) string { return `"` + escape(text) + `"` }
