package announce

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"ninja/ca"
)

// Owners is a range of owners by the hash of their IDs: those whose hash begins with some binary digits. Any two ranges
// are apart or one lies within the other. The zero value is all of them.
type Owners struct {
	bits   uint8  // how many digits
	prefix uint32 // they, from the highest bit down; the rest is zero
}

// ownersMost is how many digits a range may have.
const ownersMost = 32

// OwnerHash is what owners are ranged by: the first 32 bits of the SHA-256 of the text of the ID.
func OwnerHash(owner ca.ID) uint32 {
	sum := sha256.Sum256([]byte(owner))
	return binary.BigEndian.Uint32(sum[:])
}

// ParseOwners reads a range as String writes it: up to 32 binary digits, such as 01; none are all owners.
func ParseOwners(digits string) (Owners, error) {
	if len(digits) > ownersMost || strings.Trim(digits, "01") != "" {
		return Owners{}, fmt.Errorf("owners %q: want at most %d binary digits, such as 01", digits, ownersMost)
	}
	var o Owners
	for _, d := range digits {
		o = o.Half(d == '1')
	}
	return o, nil
}

// String is the binary digits.
func (o Owners) String() string {
	if o.bits == 0 {
		return ""
	}
	return fmt.Sprintf("%032b", o.prefix)[:o.bits]
}

// Bits is how many digits the range has: the more, the fewer owners.
func (o Owners) Bits() int { return int(o.bits) }

// Covers reports whether an owner of that hash is in the range.
func (o Owners) Covers(hash uint32) bool { return (hash^o.prefix)&mask(o.bits) == 0 }

// Half is one half of the range. That of one hash alone has no halves: it is returned itself.
func (o Owners) Half(upper bool) Owners {
	if o.bits == ownersMost {
		return o
	}
	o.bits++
	if upper {
		o.prefix |= 1 << (ownersMost - o.bits)
	}
	return o
}

// mask has the first bits set.
func mask(bits uint8) uint32 { return ^uint32(0) << (ownersMost - bits) }

// append writes the range: number of digits (8), then so many bits in whole bytes.
func (o Owners) append(b []byte) []byte {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], o.prefix)
	return append(append(b, o.bits), raw[:(o.bits+7)/8]...)
}

// owners reads what append wrote. There is one way to write each range.
func (r *reader) owners() Owners {
	bits := r.byte()
	if bits > ownersMost {
		r.bad = true
		return Owners{}
	}
	var raw [4]byte
	copy(raw[:], r.take(int(bits+7)/8))
	o := Owners{bits, binary.BigEndian.Uint32(raw[:])}
	if o.prefix&^mask(bits) != 0 {
		r.bad = true
		return Owners{}
	}
	return o
}
