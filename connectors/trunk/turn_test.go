package trunk

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ninja/connectors/hop"
)

// Whoever reads the socket, and however often that changes (few packets, many, a crowd; readers that come with deadlines,
// go away busy, or close), nothing that came is left lying: every packet is read soon.
func TestTurns(t *testing.T) {
	const streams = 12
	p := real(t)
	pools, servers := pooled(t, p)
	var senders []io.WriteCloser
	var came, slow atomic.Int64
	var readers sync.WaitGroup
	var queues []*hop.Queue
	for n := range uint64(streams) {
		q, err := pools[0].Receive(p[1].id.ID(), n, 1)
		if err != nil {
			t.Fatal(err)
		}
		queues = append(queues, q)
		s, err := pools[1].Send(t.Context(), servers[0].Addr(), p[0].id.ID(), n, 1)
		if err != nil {
			t.Fatal(err)
		}
		senders = append(senders, s)
		readers.Go(func() {
			random := rand.New(rand.NewPCG(n, 2))
			for {
				if random.IntN(4) == 0 { // to look again soon
					q.SetReadDeadline(time.Now().Add(time.Duration(random.IntN(3000)) * time.Microsecond))
				} else {
					q.SetReadDeadline(time.Time{})
				}
				d, err := q.Next()
				if err == os.ErrDeadlineExceeded {
					continue
				}
				if err == net.ErrClosed {
					return
				}
				if time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(d)))) > 2*time.Second {
					slow.Add(1)
				}
				came.Add(1)
				if random.IntN(10) == 0 {
					time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(3, 4))
	sent := int64(0)
	for _, phase := range []struct {
		packets, burst int
		pause          time.Duration
	}{{60, 1, 3 * time.Millisecond}, {1500, 8, time.Millisecond}, {3000, 30, time.Millisecond}, {60, 1, 3 * time.Millisecond}, {400, 5, time.Millisecond}, {40, 1, 5 * time.Millisecond}} {
		for n := range phase.packets {
			senders[random.IntN(streams)].Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano())))
			sent++
			if n%phase.burst == 0 {
				time.Sleep(phase.pause)
			}
		}
	}
	for begin := time.Now(); came.Load() < sent && time.Since(begin) < 10*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	if came.Load() != sent || slow.Load() > 0 {
		t.Errorf("%d of %d came, %d of them late", came.Load(), sent, slow.Load())
	}
	for _, q := range queues {
		q.Close()
	}
	readers.Wait()
	for _, s := range senders {
		s.Close()
	}
}
