package announce

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"ninja/ca/seal"
)

// Every datagram begins with version and kind, in the places where ca/seal has them. FORMATS.md draws them.
const (
	version = seal.Version

	kindServer   = 1 // server announcement, signed
	kindBlob     = 2 // sealing key or certificate chain that an announcement names by hash
	kindKeyBlock = 3 // an epoch's secret, sealed to the server's key
	kindHello    = 4 // sealed to the server: certificates and where to reply
	kindRecord   = 5 // sealed to the server: body, refresh or withdrawal
	kindReply    = 6 // sealed to the service: what the server lacks or refuses
	kindSolicit  = 7 // asks the server's unicast port for one datagram of kind 1 or 2

	prefixSize = 4 // version, kind, zero, zero
)

// kindOf reads what a datagram claims to be; 0 is nothing known.
func kindOf(d []byte) byte {
	if len(d) < prefixSize || len(d) > seal.MaxDatagram || d[0] != version || d[2] != 0 || d[3] != 0 {
		return 0
	}
	return d[1]
}

func appendPrefix(b []byte, kind byte) []byte { return append(b, version, kind, 0, 0) }

// Periods travel as the power of two of their milliseconds. The bounds are 64 ms and 70 minutes.
const minPeriodLog, maxPeriodLog = 6, 22

// periodLog is the power of two that is nearest above d, within the bounds.
func periodLog(d time.Duration) uint8 {
	ms := max(d.Milliseconds(), 1)
	return uint8(min(max(bits.Len64(uint64(ms-1)), minPeriodLog), maxPeriodLog))
}

// periodOf is the period that a power stands for, drawn into the bounds.
func periodOf(log uint8) time.Duration {
	return time.Millisecond << min(max(log, minPeriodLog), maxPeriodLog)
}

// RoundPeriod is the period that is announced for a wanted one: the next power of two in milliseconds, so that it
// tells little about the load, at least 64 ms.
func RoundPeriod(d time.Duration) time.Duration { return periodOf(periodLog(d)) }

func appendString(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, byte(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(appendAddr(b, a.Addr()), a.Port())
}

// appendNumbers writes the numbers in the order of their names.
func appendNumbers(b []byte, numbers map[string]float64) []byte {
	b = append(b, byte(len(numbers)))
	if len(numbers) == 0 {
		return b
	}
	names := make([]string, 0, len(numbers))
	for name := range numbers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = appendString(b, name)
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(numbers[name]))
	}
	return b
}

func appendMillis(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMilli()))
}

// reader takes a datagram apart. After the first part that is not there, bad is set and all parts are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	part := r.b[:n]
	r.b = r.b[n:]
	return part
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *reader) string() string { return string(r.take(int(r.byte()))) }

func (r *reader) strings(most int) []string {
	n := int(r.byte())
	if n > most {
		r.bad = true
	}
	var list []string
	for i := 0; i < n && !r.bad; i++ {
		list = append(list, r.string())
	}
	return list
}

func (r *reader) addr() netip.Addr {
	raw := r.take(int(r.byte()))
	a, ok := netip.AddrFromSlice(raw)
	if !ok && len(raw) > 0 {
		r.bad = true
	}
	return a
}

func (r *reader) addrPort() netip.AddrPort {
	a := r.addr()
	return netip.AddrPortFrom(a, r.uint16())
}

func (r *reader) hash() (h [32]byte) {
	copy(h[:], r.take(len(h)))
	return h
}

// millis reads a time. Times that package time cannot hold are bad.
func (r *reader) millis() time.Time {
	ms := r.uint64()
	if ms > 1<<47 {
		r.bad = true
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// numbers reads what appendNumbers wrote; nil when there are none. Names must ascend, so that there is one way to write them.
func (r *reader) numbers() map[string]float64 {
	n := int(r.byte())
	if n == 0 || r.bad {
		return nil
	}
	numbers, last := make(map[string]float64, min(n, MaxNumbers)), ""
	for i := 0; i < n && !r.bad; i++ {
		name := r.string()
		value := math.Float64frombits(r.uint64())
		if name <= last {
			r.bad = true
		}
		numbers[name], last = value, name
	}
	if r.bad || CheckNumbers(numbers) != nil {
		r.bad = true
		return nil
	}
	return numbers
}

// appendChain and chain are for certificate chains: their hash is over these bytes.
func appendChain(b []byte, chain [][]byte) []byte {
	b = append(b, byte(len(chain)))
	for _, der := range chain {
		b = binary.BigEndian.AppendUint16(b, uint16(len(der)))
		b = append(b, der...)
	}
	return b
}

func (r *reader) chain() [][]byte {
	n := int(r.byte())
	if n > 4 {
		r.bad = true
	}
	var chain [][]byte
	for i := 0; i < n && !r.bad; i++ {
		chain = append(chain, slices.Clone(r.take(int(r.uint16()))))
	}
	return chain
}
