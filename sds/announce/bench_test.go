package announce

import (
	"crypto/hpke"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"ninja/ca"
	"ninja/ca/seal"
)

// benchShelf is the least that a Sink does: one look-up a pair.
type benchShelf struct{ versions map[string]uint64 }

func (s *benchShelf) Put(b Body) error { s.versions[b.Name] = b.Version; return nil }
func (s *benchShelf) Refresh(_ ca.ID, _ time.Duration, pairs []Pair) (unknown []string) {
	for _, p := range pairs {
		if s.versions[p.Name] != p.Version {
			unknown = append(unknown, p.Name)
		}
	}
	return unknown
}
func (s *benchShelf) Withdraw(ca.ID, string, uint64) {}

// benchRig is a rig whose sender announces so many services, in one datagram of pairs.
func benchRig(b *testing.B, services int) (*rig, []Pair) {
	r := newRig(b)
	sink := &benchShelf{versions: map[string]uint64{}}
	r.hearing.sink = sink
	r.announceServer()
	r.run(2 * testPeriod)
	pairs := make([]Pair, services)
	for i := range pairs {
		pairs[i] = Pair{Name: fmt.Sprint("service-", i), Version: uint64(r.now.UnixMilli())}
		sink.versions[pairs[i].Name] = pairs[i].Version
	}
	if len(r.hearing.epochs) != 1 {
		b.Fatal("no epoch")
	}
	return r, pairs
}

// refreshes seals n datagrams.
func refreshes(b *testing.B, r *rig, pairs []Pair, n int) [][]byte {
	out := make([][]byte, 0, n)
	for range n {
		payload, rest := appendPairs(nil, recordRefresh, 10, pairs)
		d, err := r.sender.present.seal.Seal(nil, kindRecord, payload)
		if err != nil || len(rest) > 0 {
			b.Fatal(err, len(rest))
		}
		out = append(out, d)
	}
	return out
}

// spent is processor time of this process, of all its threads: what "a second and core" means on a machine that others
// use too.
func spent(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRefresh is what refreshes cost the server: a datagram is opened, taken apart, and each service looked up. A
// datagram brings one service or fifty, as senders have them. The floor in memory is opening the same datagrams, that of the
// socket is carrying them; x-floor is the processor time beside the floor's.
func BenchmarkRefresh(b *testing.B) {
	for _, services := range []int{1, 50} {
		b.Run(fmt.Sprintf("memory/services=%d", services), func(b *testing.B) { benchmarkRefreshMemory(b, services) })
		b.Run(fmt.Sprintf("socket/services=%d", services), func(b *testing.B) { benchmarkRefreshSocket(b, services) })
	}
}

func benchmarkRefreshMemory(b *testing.B, services int) {
	r, pairs := benchRig(b, services)
	open, err := seal.NewOpener(r.sender.present.toServer, r.sender.present.handle)
	if err != nil {
		b.Fatal(err)
	}
	const together = 512
	var took, floor time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		batch := refreshes(b, r, pairs, together)
		var room []byte
		began := spent(b)
		for _, d := range batch {
			if room, _, err = open.Open(room[:0], d); err != nil {
				b.Fatal(err)
			}
		}
		floor += spent(b) - began
		b.StartTimer()
		began = spent(b)
		for _, d := range batch {
			if _, _, err := r.hearing.handle(d, senderAt, r.now); err != nil {
				b.Fatal(err)
			}
		}
		took += spent(b) - began
		n += together
	}
	b.ReportMetric(float64(n*services)/took.Seconds(), "services/s-core")
	b.ReportMetric(float64(took)/float64(floor), "x-floor")
	b.ReportMetric(float64(took.Nanoseconds())/float64(n), "ns/datagram")
	b.ReportMetric(0, "ns/op") // of no meaning: an operation is a batch
}

// Both ends of the socket are in it, as fast as they can without loss: the next burst goes when the last one came.
func benchmarkRefreshSocket(b *testing.B, services int) {
	r, pairs := benchRig(b, services)
	const together, bursts = 32, 16
	took := carry(b, together, func(d []byte, from netip.AddrPort) {
		if _, _, err := r.hearing.handle(d, from, r.now); err != nil {
			panic(err)
		}
	})
	plain := carry(b, together, func([]byte, netip.AddrPort) {})
	var whole, floor time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		batch := refreshes(b, r, pairs, bursts*together)
		floor += plain(batch)
		b.StartTimer()
		whole += took(batch)
		n += len(batch)
	}
	b.ReportMetric(float64(n*services)/whole.Seconds(), "services/s-core")
	b.ReportMetric(float64(whole)/float64(floor), "x-floor")
	b.ReportMetric(float64(whole.Nanoseconds())/float64(n), "ns/datagram")
	b.ReportMetric(0, "ns/op")
}

// carry opens a socket whose datagrams are handled, and returns what sends some through it and says what that took.
func carry(b *testing.B, together int, handle func([]byte, netip.AddrPort)) func([][]byte) time.Duration {
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	out, err := net.Dial("udp4", in.LocalAddr().String())
	if err != nil {
		b.Fatal(err)
	}
	came, done, n := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(done)
		readLoop(in, quiet(), func(d []byte, from netip.AddrPort) {
			if handle(d, from); n%together == together-1 {
				came <- struct{}{}
			}
			n++
		})
	}()
	b.Cleanup(func() { in.Close(); out.Close(); <-done })
	return func(batch [][]byte) time.Duration {
		began := spent(b)
		for ; len(batch) > 0; batch = batch[together:] {
			for _, d := range batch[:together] {
				if _, err := out.Write(d); err != nil {
					b.Fatal(err)
				}
			}
			<-came
		}
		return spent(b) - began
	}
}

// BenchmarkNewEpoch is what first contact costs: the server opens the key block, checks the signature, the certificates,
// and replies; the sender makes all of it.
func BenchmarkNewEpoch(b *testing.B) {
	made := func(b *testing.B) (*rig, func() *stranger) {
		r := newRig(b)
		r.announceServer()
		return r, func() *stranger {
			e, err := r.sender.newEpoch(r.now)
			if err != nil {
				b.Fatal(err)
			}
			r.sender.present = e
			out, err := r.sender.block(nil, e)
			if err != nil {
				b.Fatal(err)
			}
			return &stranger{key: laneKey{e.handle, senderAt}, block: out[0], hello: out[1]}
		}
	}
	b.Run("server", func(b *testing.B) {
		r, contact := made(b)
		var s []*stranger
		for range 64 {
			s = append(s, contact())
		}
		i := 0
		began := spent(b)
		for b.Loop() {
			if _, err := r.hearing.admit(s[i%len(s)], r.now); err != nil {
				b.Fatal(err)
			}
			i++
			clear(r.hearing.epochs) // all are one sender's: it would be held to its bound
			clear(r.hearing.senders)
		}
		took := spent(b) - began
		floor := leastContact(b, r, s[0], b.N)
		b.ReportMetric(float64(b.N)/took.Seconds(), "epochs/s-core")
		b.ReportMetric(float64(took)/float64(floor), "x-floor")
	})
	b.Run("sender", func(b *testing.B) {
		_, contact := made(b)
		for b.Loop() {
			contact()
		}
	})
}

// leastContact is the processor time of what cannot be left out of a first contact, so many times: opening HPKE, and two
// signatures, of the block and of the certificate (whose issuer is remembered).
func leastContact(b *testing.B, r *rig, s *stranger, times int) time.Duration {
	k, err := parseKeyBlock(s.block)
	if err != nil {
		b.Fatal(err)
	}
	key := r.hearing.server.keys.byID(k.keyID)
	info := blockInfo(r.hearing.server.binding(), key.hash, k.handle, k.expires)
	message := make([]byte, 200)
	signature := r.owner.Sign(epochContext, message)
	began := spent(b)
	for range times {
		if _, err := hpke.Open(key.private, kdf(), aead(), info, k.sealed); err != nil {
			b.Fatal(err)
		}
		for range 2 {
			if !ca.VerifySignature(r.owner.Public(), epochContext, message, signature) {
				b.Fatal("signature")
			}
		}
	}
	return spent(b) - began
}

// BenchmarkBody is what a changed description costs the server.
func BenchmarkBody(b *testing.B) {
	r, _ := benchRig(b, 1)
	body := Sign(r.owner, "s", 1, []byte(document))
	record := appendBody(nil, body, pack(body.Description), 10)
	var e *heardEpoch
	for _, e = range r.hearing.epochs {
	}
	for _, repeated := range []bool{false, true} {
		b.Run(fmt.Sprint("repeated=", repeated), func(b *testing.B) {
			for b.Loop() {
				if !repeated {
					clear(e.verified)
				}
				if _, err := r.hearing.body(e, record, 1400); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkForged is what one forged datagram costs the server before it is dropped, by what it pretends to be. A flood
// of 100,000 a second takes a tenth of one core for every 1,000 ns.
func BenchmarkForged(b *testing.B) {
	r := settled(b)
	source := rand.New(rand.NewPCG(1, 1))
	bend := func(d []byte) []byte {
		d = slices.Clone(d)
		d[len(d)-1-source.IntN(16)] ^= 1
		return d
	}
	var block, record []byte
	for _, d := range r.toServer {
		switch kindOf(d) {
		case kindKeyBlock:
			block = d
		case kindRecord:
			record = d
		}
	}
	fresh := slices.Clone(record)
	binary.BigEndian.PutUint64(fresh[12:], 1<<40)
	stranger := slices.Clone(block)
	binary.BigEndian.PutUint64(stranger[macStart-8:], 1)
	for _, tc := range []struct {
		name string
		make func(i int) []byte
	}{
		{"key block of a stranger", func(i int) []byte {
			binary.BigEndian.PutUint64(stranger[prefixSize+keyIDSize:], uint64(i))
			return stranger
		}},
		{"key block of a known sender", func(int) []byte { return bend(block) }},
		{"record replayed", func(int) []byte { return record }},
		{"record of a known sender", func(int) []byte { return bend(fresh) }},
		{"record of a stranger", func(int) []byte { d := slices.Clone(record); d[4] ^= 1; return d }},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r.hearing.handle(tc.make(i), senderAt, r.now)
			}
		})
	}
}
