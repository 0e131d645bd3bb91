package dnssd

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"ninja/sds"
	"ninja/sds/check"
	"ninja/sds/index"
)

// shown is a service as it is shown on the link.
type shown struct {
	typ     string
	name    name
	address netip.AddrPort
	text    string
}

// show makes of a service what is shown; false if it has no address.
func show(f sds.Found, typ string, at *index.Selector) (s shown, ok bool, err error) {
	d, err := check.Parse(f.Description)
	if err != nil {
		return s, false, err
	}
	text, ok := at.Value(d)
	if !ok {
		return s, false, nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || !a.Addr().Is4() || a.Port() == 0 {
		return s, false, fmt.Errorf("address %.80q: want IPv4:PORT", text)
	}
	label := instanceLabel(f)
	return shown{typ, under(label, browse(typ)), a, short(mark+f.ID, 255)}, true, nil
}

// maxLabel bounds a label of a name, in bytes.
const maxLabel = 63

// instanceLabel is a name for people which no other service of the domain has.
func instanceLabel(f sds.Found) string {
	label := fmt.Sprintf("%s (%s/%s)", f.Name, f.Owner.Kind(), f.Owner.Name())
	if len(label) <= maxLabel {
		return label
	}
	hash := sha256.Sum256([]byte(f.ID))
	return short(label, maxLabel-9) + " " + hex.EncodeToString(hash[:4])
}

// short cuts text at a whole character.
func short(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// life is the TTL of all our records: they are soft state, and a door that dies takes no leave.
const life = 120

// allTypes is the list of types (RFC 6763, 9).
const allTypes = name("_services._dns-sd._udp.local.")

// records are those of a service, the one that lists it first.
func (s shown) records() []record {
	host := name("ninja-"+hex.EncodeToString(s.address.Addr().AsSlice())) + "." + local
	return []record{
		{name: browse(s.typ), typ: typePTR, ttl: life, target: s.name},
		{name: s.name, typ: typeSRV, flush: true, ttl: life, target: host, port: s.address.Port()},
		{name: s.name, typ: typeTXT, flush: true, ttl: life, texts: []string{s.text}},
		{name: host, typ: typeA, flush: true, ttl: life, addr: s.address.Addr()},
		{name: allTypes, typ: typePTR, ttl: life, target: browse(s.typ)},
	}
}

// exported is what is shown, and what has to be said. It has no clock, goroutine or socket.
type exported struct {
	services  map[name]shown
	announced map[name]int         // how often yet, of those that are new
	wanted    map[string]record    // answers that wait to be given
	sent      map[string]time.Time // when each was given last
}

func newExported() *exported {
	return &exported{map[name]shown{}, map[name]int{}, map[string]record{}, map[string]time.Time{}}
}

// identity tells records apart.
func (r record) identity() string {
	return fmt.Sprintf("%d %s %s %v", r.typ, r.name.key(), r.target.key(), r.addr)
}

// set replaces what is shown and returns the farewells of what is gone.
func (x *exported) set(services []shown) (farewells []record) {
	next := map[name]shown{}
	for _, s := range services {
		next[s.name.key()] = s
		if x.services[s.name.key()] != s {
			x.announced[s.name.key()] = 0
		}
	}
	for _, key := range slices.Sorted(maps.Keys(x.services)) {
		if _, still := next[key]; !still {
			bye := x.services[key].records()[0]
			bye.ttl = 0
			farewells = append(farewells, bye)
			delete(x.announced, key)
		}
	}
	x.services = next
	return farewells
}

// fresh says whether there is something to announce.
func (x *exported) fresh() bool { return len(x.announced) > 0 }

// announce returns the records of what is new, each twice in all; more says that it must be called again.
func (x *exported) announce(now time.Time) (records []record, more bool) {
	told := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(x.announced)) {
		for _, r := range x.services[key].records() {
			if id := r.identity(); !told[id] {
				told[id] = true
				x.sent[id] = now
				records = append(records, r)
			}
		}
		if x.announced[key]++; x.announced[key] >= 2 {
			delete(x.announced, key)
		}
	}
	return records, len(x.announced) > 0
}

// take notes the answers to a message's questions that the asker does not know yet, and says whether there are any.
func (x *exported) take(m message) bool {
	if m.response {
		return false
	}
	known := map[string]uint32{}
	for _, r := range m.records {
		known[r.identity()] = r.ttl
	}
	for _, q := range m.questions {
		for _, s := range x.services {
			all := s.records()
			for n, r := range all {
				if r.name.key() != q.name.key() || r.typ != q.typ && q.typ != typeANY || known[r.identity()] >= life/2 {
					continue
				}
				x.wanted[r.identity()] = r
				if n == 0 { // with the list come those on it (RFC 6763, 12.1)
					for _, r := range all[1:4] {
						x.wanted[r.identity()] = r
					}
				}
			}
		}
	}
	return len(x.wanted) > 0
}

// answer returns the answers that wait, but for those given within the last second (RFC 6762, 6).
func (x *exported) answer(now time.Time) (records []record) {
	maps.DeleteFunc(x.sent, func(_ string, at time.Time) bool { return now.Sub(at) >= time.Second })
	for _, id := range slices.Sorted(maps.Keys(x.wanted)) {
		if _, lately := x.sent[id]; !lately {
			x.sent[id] = now
			records = append(records, x.wanted[id])
		}
	}
	clear(x.wanted)
	return records
}
