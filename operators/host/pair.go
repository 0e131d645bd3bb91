package host

import (
	"context"
	"io"
	"sync"

	"ninja/connectors"
)

// pair joins two stages of one process by a bounded queue of n ADUs.
func pair(n int) (connectors.Writer, connectors.Reader) {
	h := &inside{
		data: make(chan connectors.ADU, n), events: make(chan connectors.Event, maxEvents),
		ended: make(chan struct{}), closed: make(chan struct{}),
	}
	return (*insideWriter)(h), (*insideReader)(h)
}

type inside struct {
	data          chan connectors.ADU
	ended, closed chan struct{} // by the writer, by the reader
	seq           uint64

	mu     sync.Mutex
	events chan connectors.Event // closed by the writer's Close
	over   bool
	once   sync.Once
}

type (
	insideWriter inside
	insideReader inside
)

func (w *insideWriter) Write(ctx context.Context, a connectors.ADU) error {
	if a.Seq == 0 {
		w.seq++
		a.Seq = w.seq
	}
	select {
	case <-w.closed:
		return connectors.ErrClosed
	default:
	}
	select {
	case w.data <- a:
		return nil
	case <-w.closed:
		return connectors.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *insideWriter) Events() <-chan connectors.Event { return w.events }

func (w *insideWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.over = true
		close(w.events)
		close(w.ended)
	}
	return nil
}

func (r *insideReader) Read(ctx context.Context) (connectors.ADU, error) {
	select {
	case a := <-r.data:
		return a, nil
	default:
	}
	select {
	case a := <-r.data:
		return a, nil
	case <-r.closed:
		return connectors.ADU{}, connectors.ErrClosed
	case <-ctx.Done():
		return connectors.ADU{}, ctx.Err()
	case <-r.ended:
	}
	select {
	case a := <-r.data:
		return a, nil
	default:
		return connectors.ADU{}, io.EOF
	}
}

func (r *insideReader) Signal(e connectors.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return connectors.ErrClosed
	}
	offer(r.events, e)
	return nil
}

func (r *insideReader) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}
