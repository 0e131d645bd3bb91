package connectors

// Slab gives out pieces of memory that is allocated many at a time: one allocation for many payloads, which hold it until
// the last of them is gone. Receiving ends of hops use it. It is for one goroutine. The zero Slab is ready for use.
type Slab struct{ b []byte }

// slabSize is how much is allocated at once, in bytes: little enough that a payload that somebody keeps holds on to little
// else.
const slabSize = 16 << 10

// Free is empty, with room for n bytes: append to it at most so many, and Take the result before the next Free.
func (s *Slab) Free(n int) []byte {
	if cap(s.b)-len(s.b) < n {
		s.b = make([]byte, 0, max(n, slabSize))
	}
	return s.b[len(s.b):len(s.b):cap(s.b)]
}

// Take makes what was appended to the last Free the caller's: nothing else is given out of it.
func (s *Slab) Take(p []byte) []byte {
	s.b = s.b[:len(s.b)+len(p)]
	return p[:len(p):len(p)]
}

// Copy gives out a copy of p.
func (s *Slab) Copy(p []byte) []byte { return s.Take(append(s.Free(len(p)), p...)) }
