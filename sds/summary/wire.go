package summary

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Message is a summary as it travels: a whole set, or what has changed since the one before. All integers are
// big-endian.
//
//	message := 'N' 'S' version(1)=1 flags(1) sequence(8) services(8) epoch(8) pairs triples terms(4) check(8) added [removed]
//	pairs, triples := count(1) key(4){count}
//	added, removed := count(4) rice(1) length(4) codes(length)
//	           flags: 1 a change, to be applied to the set of the sequence before
//
// Codes are the differences of the terms in order, less one, in Rice's code: the high bits in unary (ones, then a zero),
// then rice low bits. terms and check are of the set that results.
type Message struct {
	Sequence uint64
	Change   bool
	Services uint64 // behind it that everyone may find, for people to see
	Plan     Plan
	Terms    int
	Check    Check
	Added    []Term // the whole set when it is no change
	Removed  []Term
}

// Bounds of a message.
const (
	// MaxTerms is how many terms one set may have: 40 MiB on the wire, 128 MiB in memory.
	MaxTerms = 16 << 20
	// MaxMessage is how long a message may be.
	MaxMessage = 64 << 20
	fixed      = 4 + 8 + 8 + 8
)

// ErrMalformed is wrapped by every error about a message that cannot be read.
var ErrMalformed = errors.New("malformed summary")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Encode writes a message. Added and Removed must be in order.
func (m *Message) Encode() []byte {
	b := append(make([]byte, 0, 256+3*(len(m.Added)+len(m.Removed))), 'N', 'S', 1, 0)
	if m.Change {
		b[3] = 1
	}
	b = binary.BigEndian.AppendUint64(b, m.Sequence)
	b = binary.BigEndian.AppendUint64(b, m.Services)
	b = binary.BigEndian.AppendUint64(b, m.Plan.Epoch)
	for _, keys := range [][]Key{m.Plan.Pairs, m.Plan.Triples} {
		b = append(b, byte(len(keys)))
		for _, k := range keys {
			b = binary.BigEndian.AppendUint32(b, uint32(k))
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(m.Terms))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Check))
	b = appendTerms(b, m.Added)
	if m.Change {
		b = appendTerms(b, m.Removed)
	}
	return b
}

// rice is the best parameter for n terms that lie evenly.
func rice(n int) uint {
	if n == 0 {
		return 0
	}
	return uint(bits.Len64(uint64(termMask)/uint64(n))) - 1
}

func appendTerms(b []byte, terms []Term) []byte {
	r := rice(len(terms))
	b = binary.BigEndian.AppendUint32(b, uint32(len(terms)))
	b = append(b, byte(r), 0, 0, 0, 0)
	start := len(b)
	w := bitWriter{b: b}
	last := int64(-1)
	for _, t := range terms {
		gap := uint64(int64(t) - last - 1)
		last = int64(t)
		for range gap >> r {
			w.put(1, 1)
		}
		w.put(0, 1)
		w.put(gap&(1<<r-1), r)
	}
	b = w.flush()
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}

type bitWriter struct {
	b    []byte
	bits uint64
	n    uint
}

func (w *bitWriter) put(v uint64, n uint) {
	for n > 32 {
		w.put(v>>(n-8), 8)
		n -= 8
		v &= 1<<n - 1
	}
	w.bits = w.bits<<n | v
	for w.n += n; w.n >= 8; w.n -= 8 {
		w.b = append(w.b, byte(w.bits>>(w.n-8)))
	}
	w.bits &= 1<<w.n - 1
}

func (w *bitWriter) flush() []byte {
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
	return w.b
}

// Decode reads a message. It allocates no more than a small multiple of what came.
func Decode(b []byte) (*Message, error) {
	if len(b) > MaxMessage {
		return nil, malformed("%d bytes, at most %d", len(b), MaxMessage)
	}
	if len(b) < fixed || string(b[:3]) != "NS\x01" || b[3] > 1 {
		return nil, malformed("not a summary of version 1")
	}
	m := &Message{
		Change: b[3] == 1, Sequence: binary.BigEndian.Uint64(b[4:]), Services: binary.BigEndian.Uint64(b[12:]),
		Plan: Plan{Epoch: binary.BigEndian.Uint64(b[20:])},
	}
	r := cutter{b: b[fixed:]}
	m.Plan.Pairs, m.Plan.Triples = r.keys(), r.keys()
	m.Terms, m.Check = int(r.uint(4)), Check(r.uint(8))
	m.Added = r.terms()
	if m.Change {
		m.Removed = r.terms()
	}
	switch {
	case r.failed || len(r.b) > 0:
		return nil, malformed("cut short, too long or out of order")
	case m.Terms > MaxTerms:
		return nil, malformed("%d terms, at most %d", m.Terms, MaxTerms)
	case !m.Change && (m.Terms != len(m.Added) || m.Check != CheckOf(m.Added)):
		return nil, malformed("it is not the set that it says it is")
	}
	if err := m.Plan.Check(); err != nil {
		return nil, malformed("%v", err)
	}
	return m, nil
}

// cutter takes fields off the front; after the first that is not there it has failed.
type cutter struct {
	b      []byte
	failed bool
}

func (r *cutter) uint(n int) (v uint64) {
	for _, c := range r.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (r *cutter) take(n int) []byte {
	if r.failed || n > len(r.b) {
		r.failed, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *cutter) keys() (out []Key) {
	for range r.uint(1) {
		if r.failed {
			return nil
		}
		out = append(out, Key(r.uint(4)))
	}
	return out
}

func (r *cutter) terms() []Term {
	n, k, size := int(r.uint(4)), uint(r.uint(1)), int(r.uint(4))
	codes := r.take(size)
	if k > TermBits || n > MaxTerms || uint64(n)*uint64(k+1) > uint64(len(codes))*8 {
		r.failed = true
	}
	if r.failed || n == 0 {
		r.failed = r.failed || size > 0
		return nil
	}
	out := make([]Term, 0, n)
	bits := bitReader{b: codes}
	last := int64(-1)
	for range n {
		high := bits.unary()
		low := bits.get(k)
		if bits.failed || high > termMask>>k {
			r.failed = true
			return nil
		}
		last += int64(high<<k|low) + 1
		if last > termMask {
			r.failed = true
			return nil
		}
		out = append(out, Term(last))
	}
	if !bits.ended() {
		r.failed = true
	}
	return out
}

type bitReader struct {
	b      []byte
	bits   uint64
	n      uint
	failed bool
}

func (r *bitReader) get(k uint) uint64 {
	if k > 32 {
		high := r.get(k - 32)
		return high<<32 | r.get(32)
	}
	for r.n < k {
		if len(r.b) == 0 {
			r.failed = true
			return 0
		}
		r.bits = r.bits<<8 | uint64(r.b[0])
		r.b = r.b[1:]
		r.n += 8
	}
	r.n -= k
	v := r.bits >> r.n
	r.bits &= 1<<r.n - 1
	return v
}

// unary counts ones up to a zero.
func (r *bitReader) unary() (n uint64) {
	for r.get(1) == 1 {
		n++
	}
	return n
}

// ended reports whether nothing is left but padding with zeros.
func (r *bitReader) ended() bool { return len(r.b) == 0 && r.n < 8 && r.bits == 0 }
