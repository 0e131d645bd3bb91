package webrtc

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/pion/datachannel"
	pion "github.com/pion/webrtc/v4"

	"ninja/connectors"
	"ninja/connectors/hop"
)

// queued is how many ADUs wait for Read before the data channel's own back pressure sets in.
const queued = 8

// dataReader is the receiving end of a hop of anything but sound. One goroutine reads the data channel into a short queue.
type dataReader struct {
	session *hop.Session
	link    *link
	queue   chan connectors.ADU
	closed  chan struct{}
	work    sync.WaitGroup
	once    sync.Once

	adus, bytes atomic.Uint64

	decision        // of what follows
	next     uint64 // ADUs taken from the queue
	ended    bool
	end      uint64 // ADUs of the whole stream
	flushing bool
	resume   uint64 // ADUs before this position are dropped
	broken   error  // the channel cannot be read further
}

func newDataReader(s *hop.Session, l *link, remote params) *dataReader {
	r := &dataReader{
		session: s, link: l, queue: make(chan connectors.ADU, queued), decision: newDecision(), closed: make(chan struct{}),
	}
	l.start(remote, false, r.open)
	s.Begin(hop.Handler{
		End:     func(at uint64) { r.change(func() { r.ended, r.end = true, at }) },
		Flushed: func(at uint64) { r.change(func() { r.flushing, r.resume = false, at }) },
		Ended:   func() { r.change(func() {}) },
	})
	return r
}

// open waits for the one channel that the sending end opens.
func (r *dataReader) open() error {
	sctp := r.link.api.NewSCTPTransport(r.link.dtls)
	opened := make(chan datachannel.ReadWriteCloser, 1)
	sctp.OnDataChannel(func(c *pion.DataChannel) {
		c.OnOpen(func() {
			raw, err := c.Detach()
			if err != nil {
				r.change(func() { r.broken = err })
				return
			}
			select {
			case opened <- raw:
			default: // one channel is all there is
			}
		})
	})
	r.work.Go(func() {
		select {
		case raw := <-opened:
			r.receive(raw)
		case <-r.closed:
		}
	})
	return sctp.Start(pion.SCTPCapabilities{MaxMessageSize: maxMessage})
}

// receive reads the channel until it ends.
func (r *dataReader) receive(raw datachannel.ReadWriteCloser) {
	buffer := make([]byte, maxMessage)
	a := assembler{link: r.session.Link}
	for {
		n, err := raw.Read(buffer)
		if err == nil && n == 1 && buffer[0] == flagEnd {
			r.session.Report([]byte{1})
			continue
		}
		var adu connectors.ADU
		whole := false
		if err == nil {
			adu, whole, err = a.add(buffer[:n])
		}
		if err != nil {
			r.change(func() { r.broken = fmt.Errorf("read the data channel: %w", err) })
			return
		}
		if !whole {
			continue
		}
		select {
		case r.queue <- adu:
		case <-r.closed:
			return
		}
	}
}

// Read implements connectors.Reader.
func (r *dataReader) Read(ctx context.Context) (connectors.ADU, error) {
	up := r.link.up
	for {
		a, queue, err := r.decide()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return a, err
		}
		select {
		case a := <-queue:
			if r.count(a) {
				return a, nil
			}
		case <-r.wake:
		case <-up:
			up = nil
			if r.link.failed != nil {
				return a, r.link.failed
			}
		case <-ctx.Done():
			return a, ctx.Err()
		case <-r.closed:
		}
	}
}

// count says whether an ADU that was taken from the queue is delivered; a flush drops it.
func (r *dataReader) count(a connectors.ADU) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	if r.next <= r.resume {
		return false
	}
	r.adus.Add(1)
	r.bytes.Add(uint64(len(a.Payload)))
	return true
}

// decide returns the error that Read returns without taking an ADU, or where to take one. While a flush is on its way
// nothing is taken: what is in the queue may be from before it or from after it, and only the answer says.
func (r *dataReader) decide() (a connectors.ADU, queue chan connectors.ADU, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
		return a, nil, connectors.ErrClosed
	default:
	}
	if !r.flushing {
		queue = r.queue
	}
	if len(queue) > 0 {
		return a, queue, nil
	}
	if r.ended && (r.next >= r.end || r.flushing) {
		return a, nil, io.EOF
	}
	if !r.ended {
		select {
		case <-r.session.Done():
			return a, nil, r.session.Err()
		default:
		}
	}
	if r.broken != nil && len(r.queue) == 0 {
		return a, nil, r.cause()
	}
	return a, queue, nil
}

// cause is why the channel broke: when the session has ended too, it knows better.
func (r *dataReader) cause() error {
	select {
	case <-r.session.Done():
		return r.session.Err()
	default:
		return r.broken
	}
}

// Signal implements connectors.Reader.
func (r *dataReader) Signal(e connectors.Event) error {
	if e.Kind == connectors.Flush {
		r.change(func() { r.flushing = true })
	}
	return r.session.Signal(e)
}

// Close implements connectors.Reader.
func (r *dataReader) Close() error {
	r.once.Do(func() {
		close(r.closed)
		r.session.Leave()
		r.link.close()
		r.work.Wait()
	})
	return nil
}

// Stats implements connectors.Measured.
func (r *dataReader) Stats() connectors.Stats {
	return connectors.Stats{ADUs: r.adus.Load(), Bytes: r.bytes.Load(), Link: r.session.Link()}
}
