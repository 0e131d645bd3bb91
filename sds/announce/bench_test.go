package announce

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ninja/ca"
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

const benchServices = 50

// benchRig is a rig whose sender announces benchServices, in one datagram of pairs.
func benchRig(b *testing.B) (*rig, []Pair) {
	r := newRig(b)
	sink := &benchShelf{versions: map[string]uint64{}}
	r.hearing.sink = sink
	r.announceServer()
	r.run(2 * testPeriod)
	pairs := make([]Pair, benchServices)
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

// BenchmarkRefresh is what a refresh costs the server: a datagram is opened, taken apart, and each service looked up.
func BenchmarkRefresh(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		r, pairs := benchRig(b)
		var batch [][]byte
		b.ReportAllocs()
		for b.Loop() {
			if len(batch) == 0 {
				b.StopTimer()
				batch = refreshes(b, r, pairs, 4096)
				b.StartTimer()
			}
			if _, _, err := r.hearing.handle(batch[0], senderAt, r.now); err != nil {
				b.Fatal(err)
			}
			batch = batch[1:]
		}
		b.ReportMetric(float64(b.N*benchServices)/b.Elapsed().Seconds(), "services/s")
	})
	b.Run("socket", benchmarkRefreshSocket)
}

// Both ends of the socket are in it, as fast as they can without loss: the next burst goes when the last one came.
func benchmarkRefreshSocket(b *testing.B) {
	r, pairs := benchRig(b)
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	out, err := net.Dial("udp4", in.LocalAddr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	const together = 32
	came, n := make(chan struct{}), 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		readLoop(in, quiet(), func(d []byte, from netip.AddrPort) {
			if _, _, err := r.hearing.handle(d, from, r.now); err != nil {
				panic(err)
			}
			if n++; n%together == 0 {
				came <- struct{}{}
			}
		})
	}()
	var batch [][]byte
	bursts := 0
	for b.Loop() {
		if len(batch) == 0 {
			b.StopTimer()
			batch = refreshes(b, r, pairs, 64*together)
			b.StartTimer()
		}
		for _, d := range batch[:together] {
			if _, err := out.Write(d); err != nil {
				b.Fatal(err)
			}
		}
		<-came
		batch, bursts = batch[together:], bursts+1
	}
	b.ReportMetric(float64(bursts*together*benchServices)/b.Elapsed().Seconds(), "services/s")
	in.Close()
	<-done
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
		for b.Loop() {
			if _, err := r.hearing.admit(s[i%len(s)], r.now); err != nil {
				b.Fatal(err)
			}
			i++
			clear(r.hearing.epochs) // all are one sender's: it would be held to its bound
			clear(r.hearing.senders)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "epochs/s")
	})
	b.Run("sender", func(b *testing.B) {
		_, contact := made(b)
		for b.Loop() {
			contact()
		}
	})
}

// BenchmarkBody is what a changed description costs the server.
func BenchmarkBody(b *testing.B) {
	r, _ := benchRig(b)
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
