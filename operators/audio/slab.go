package audio

// slabBytes is what one slab holds: payloads of 20 ms for about half a second of wide-band speech.
const slabBytes = 16 << 10

// slab hands out payloads for operators whose output is larger than their input, so that one allocation serves many
// packets. A payload is its holder's for good: nothing is handed out twice. The zero slab is ready; it is one goroutine's.
type slab struct{ rest []byte }

// take returns n bytes of capacity n and length 0.
func (s *slab) take(n int) []byte {
	if n > slabBytes/4 {
		return make([]byte, 0, n)
	}
	if len(s.rest) < n {
		s.rest = make([]byte, slabBytes)
	}
	b := s.rest[:0:n]
	s.rest = s.rest[n:]
	return b
}

// reuse is a payload of n bytes: that of a payload that is done with when it is as long, else a new one. What lies between
// the length and the capacity of a payload may be another's.
func (s *slab) reuse(done []byte, n int) []byte {
	if len(done) >= n {
		return done[:0]
	}
	return s.take(n)
}
