package announce

import (
	"bytes"
	"maps"
	"time"

	"ninja/ca/seal"
)

// reply takes a datagram from the server: proof that it hears us, what it lacks and, which is returned, what it refuses.
func (s *sender) reply(datagram []byte, now time.Time) ([]refusal, error) {
	h, err := seal.Parse(datagram)
	if err != nil || h.Kind != kindReply || s.present == nil {
		return nil, refuse(ReasonMalformed, "not a reply")
	}
	e := s.present
	if s.next != nil && s.next.handle == h.Handle {
		e = s.next
	}
	payload, _, err := e.open.Open(nil, datagram)
	if err != nil {
		return nil, refuse(ReasonSignature, "a reply that is not from our server: %v", err)
	}
	r, err := parseReply(payload)
	if err != nil {
		return nil, err
	}
	s.heard = now
	for _, name := range r.unknown {
		v := s.services[name]
		if v == nil || v.refused {
			continue
		}
		if v.streamed = 0; v.sendAt.IsZero() && now.Sub(v.sent) >= s.period()/4 {
			v.sendAt = now
		}
	}
	return r.refused, nil
}

// noteRefusal says whether it is news. A body that will always be refused is not sent again before it changes or another
// server is followed; one for which there was no room, or which is older than what the server holds, is.
func (s *sender) noteRefusal(f refusal) bool {
	v := s.services[f.name]
	if v == nil || v.body.Version != f.version || v.told == f.reason {
		return false
	}
	v.told = f.reason
	v.refused = f.reason != ReasonFull && f.reason != ReasonReplay
	return true
}

// unheard says whether the server has not replied for so long that datagrams cannot be relied on. For the first server
// it waits so long.
func (s *sender) unheard(now time.Time, first time.Duration) bool {
	if s.present == nil {
		return now.Sub(s.started) >= first
	}
	return now.After(s.unheardAt())
}

// unheardAt is when the server should have replied: after the hello of every third period, with a quarter of a period to
// spare. Services live for five periods from their last refresh, which may be a whole one older than the last reply, so the
// stream still comes in time when datagrams stop passing.
func (s *sender) unheardAt() time.Time {
	if s.heard.IsZero() {
		return s.contact.Add(2*s.period() + maxSettle)
	}
	return s.heard.Add(blockEvery*s.period() + s.period()/4)
}

// forStream is what the stream shall bring: what is too large for datagrams, or everything when all is true.
func (s *sender) forStream(all bool) (bodies []Body, pairs, ended []Pair) {
	for name, v := range s.services {
		switch {
		case v.refused || !all && !v.large:
		case v.streamed == v.body.Version:
			pairs = append(pairs, Pair{Name: name, Version: v.body.Version, Numbers: maps.Clone(v.body.Numbers)})
		default:
			bodies = append(bodies, v.body)
		}
	}
	for _, e := range s.ended {
		ended = append(ended, e.pair)
	}
	return bodies, pairs, ended
}

// streamed notes what the stream brought, and what the server lacks nevertheless.
func (s *sender) streamed(bodies []Body, ended []Pair, unknown []string) {
	for _, b := range bodies {
		if v := s.services[b.Name]; v != nil && v.body.Version == b.Version {
			v.streamed = b.Version
		}
	}
	for _, name := range unknown {
		if v := s.services[name]; v != nil {
			v.streamed = 0
		}
	}
	if s.present == nil { // with datagrams, endings are told by them as well
		for _, p := range ended {
			s.ended = deleteEnding(s.ended, p.Name)
		}
	}
}

// same says whether a service with that description is announced already.
func (s *sender) same(name string, description []byte) bool {
	v := s.services[name]
	return v != nil && bytes.Equal(v.body.Description, description)
}
