package tree

import (
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"ninja/ca"
	"ninja/sds/packed"
	"ninja/sds/route"
)

// hitAround packs a hit around a packed Found, which begins after head bytes.
func hitAround(found []byte, rank int, value float64, text, server string) []byte {
	b := frameAround(hitFound, found)
	b = packed.AppendNumber(b, hitRank, uint64(rank))
	if value != 0 {
		b = protowire.AppendFixed64(protowire.AppendTag(b, hitValue, protowire.Fixed64Type), math.Float64bits(value))
	}
	b = packed.AppendText(b, hitText, text)
	return packed.AppendText(b, hitServer, server)
}

// hit is a Hit whose Found stays packed.
type hit struct {
	found  []byte
	server string
	place  route.Place
}

func parseHit(b []byte) (h hit, err error) {
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case hitFound:
			h.found = v.Bytes
		case hitRank:
			h.place.Rank = int(uint32(v.Number))
		case hitValue:
			h.place.Value = math.Float64frombits(v.Number)
		case hitText:
			h.place.Text = string(v.Bytes)
		case hitServer:
			h.server = string(v.Bytes)
		}
		return nil
	})
	if err == nil && !(utf8.ValidString(h.server) && utf8.ValidString(h.place.Text)) {
		err = errFrame
	}
	return h, err
}

// parseOutcome reads what became of a branch, but for what is hidden there: hidden says whether something is.
func parseOutcome(b []byte, known words) (o route.Outcome, hidden bool, err error) {
	valid := true
	word := func(v packed.Field) string {
		valid = valid && utf8.Valid(v.Bytes)
		return known.of(v.Bytes)
	}
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case outcomeServer:
			o.Server = ca.ID(word(v))
		case outcomeVia:
			o.Via = ca.ID(word(v))
		case outcomeHierarchy:
			o.Hierarchy = word(v)
		case outcomeUp:
			o.Up = v.Number != 0
		case outcomeStatus:
			o.Status = route.Status(min(v.Number, math.MaxInt16))
		case outcomeStale:
			o.Stale = v.Number != 0
		case outcomeAge:
			o.Age = time.Duration(v.Number) * time.Millisecond
		case outcomeFound:
			o.Found = int(uint32(v.Number))
		case outcomeTook:
			o.Took = time.Duration(v.Number) * time.Microsecond
		case outcomeDetail:
			o.Detail = word(v)
		case outcomeHidden:
			hidden = true
		}
		return nil
	})
	if err == nil && !valid {
		err = errFrame
	}
	return o, hidden, err
}

// sighted is what putting the answers of branches together takes of a hit.
type sighted struct {
	owner, name []byte
	version     uint64
	place       route.Place
}

func parseSighted(b []byte) (s sighted, err error) {
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case hitRank:
			s.place.Rank = int(uint32(v.Number))
		case hitValue:
			s.place.Value = math.Float64frombits(v.Number)
		case hitText:
			s.place.Text = string(v.Bytes)
		case hitFound:
			return packed.Fields(v.Bytes, func(num protowire.Number, v packed.Field) error {
				switch num {
				case foundOwner:
					s.owner = v.Bytes
				case foundName:
					s.name = v.Bytes
				case foundVersion:
					s.version = v.Number
				}
				return nil
			})
		}
		return nil
	})
	return s, err
}

// told is what passing on takes of an outcome.
type told struct {
	server, via []byte
	status      route.Status
	hidden      bool
}

func parseTold(b []byte) (t told, err error) {
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case outcomeServer:
			t.server = v.Bytes
		case outcomeVia:
			t.via = v.Bytes
		case outcomeStatus:
			t.status = route.Status(min(v.Number, math.MaxInt16))
		case outcomeHidden:
			t.hidden = true
		}
		return nil
	})
	return t, err
}

// reached returns a packed outcome with how its server was reached said anew: of a field that comes twice, the last
// holds.
func reached(o []byte, via, hierarchy string, up bool, ageMs uint64) []byte {
	b := make([]byte, len(o), len(o)+len(via)+len(hierarchy)+24)
	copy(b, o)
	b = packed.AppendBytes(b, outcomeVia, via)
	b = packed.AppendBytes(b, outcomeHierarchy, hierarchy)
	b = protowire.AppendVarint(protowire.AppendTag(b, outcomeUp, protowire.VarintType), bit(up))
	return protowire.AppendVarint(protowire.AppendTag(b, outcomeAge, protowire.VarintType), ageMs)
}
