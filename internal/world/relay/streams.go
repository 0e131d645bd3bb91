package relay

import (
	"math/rand/v2"
	"net"
	"time"
)

const (
	// piece is how much of a stream moves at once, and pieces how many are under way in a direction.
	piece  = 16 << 10
	pieces = 64
	// connectTimeout bounds reaching the target.
	connectTimeout = 10 * time.Second
)

// forwardStreams listens for the target.
func (r *Relay) forwardStreams(target string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(r.host, "0"))
	if err != nil {
		return "", err
	}
	_, release, err := r.hold(l.Close)
	if err != nil {
		return "", err
	}
	r.work.Go(func() {
		defer release()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { r.stream(c.(*net.TCPConn), target) })
		}
	})
	return l.Addr().String(), nil
}

// stream carries one stream to its end. It ends as it would without the relay: each direction by itself, both when one
// side is reset.
func (r *Relay) stream(near *net.TCPConn, target string) {
	number, release, err := r.hold(near.Close)
	if err != nil {
		return
	}
	defer release()
	if !r.whenHealed() {
		return
	}
	c, err := net.DialTimeout("tcp", target, connectTimeout)
	if err != nil {
		near.SetLinger(0) // refused there is reset here
		return
	}
	far := c.(*net.TCPConn)
	_, releaseFar, err := r.hold(far.Close)
	if err != nil {
		return
	}
	defer releaseFar()
	ended := make(chan struct{}, 2)
	for d, way := range [][2]*net.TCPConn{{near, far}, {far, near}} {
		random := r.source(number, direction(d))
		r.work.Go(func() {
			r.move(way[0], way[1], direction(d), random)
			ended <- struct{}{}
		})
	}
	<-ended
	<-ended
}

// whenHealed waits while the sides are parted; false is the relay's end.
func (r *Relay) whenHealed() bool {
	_, healed := r.state(there)
	select {
	case <-healed:
		return true
	case <-r.stop:
		return false
	}
}

// part is a piece of a stream, or its end when data is nil.
type part struct {
	data []byte
	due  time.Time
}

// move carries one direction.
func (r *Relay) move(from, to *net.TCPConn, d direction, random *rand.Rand) {
	under := make(chan part, pieces)
	gone := make(chan struct{}) // to takes no more
	r.work.Go(func() {
		defer close(under)
		var free, last time.Time
		for {
			b := make([]byte, piece)
			n, err := from.Read(b)
			f, _ := r.state(d)
			now := time.Now()
			if free.Before(now) {
				free = now
			}
			free = free.Add(f.transmission(n))
			due := free.Add(f.Delay + time.Duration(random.Float64()*float64(f.Jitter)))
			if due.Before(last) {
				due = last
			}
			last = due
			p := part{data: b[:n], due: due}
			if err != nil {
				p.data = nil
			}
			select {
			case under <- p:
			case <-gone:
				return
			case <-r.stop:
				return
			}
			if err != nil {
				return
			}
		}
	})
	defer close(gone)
	for p := range under {
		if !r.until(p.due) || !r.whenHealed() {
			break
		}
		if p.data == nil {
			to.CloseWrite()
			return
		}
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	from.Close()
	to.Close()
}

// until waits until the time; false is the relay's end.
func (r *Relay) until(t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.stop:
		return false
	}
}
