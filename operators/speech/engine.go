package speech

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// The frames of the child program: length, kind, body. engine/recognise.c has the diagram and says what each kind means.
const (
	askLookup    = 'L'
	askAdd       = 'A'
	askGrammar   = 'G'
	askUtterance = 'U'
	saysError    = 'E'

	// maxBody bounds a request, maxAnswer an answer.
	maxBody   = 4 << 20
	maxAnswer = 4 << 20
	// askLimit is how long the engine may take for one answer; then it is taken for hung and killed.
	askLimit = 20 * time.Second
)

// refused is what the engine says of a request that it did not like; the engine itself is well.
type refused struct{ why string }

func (r *refused) Error() string { return "the recogniser refused: " + r.why }

// engine is a running child. Requests are made by one goroutine.
type engine struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	pipe io.Closer // beneath out
	out  *bufio.Reader
	dead chan struct{} // closed when the child has ended
	once sync.Once
}

// startEngine starts the child; it lives until close, whatever becomes of the caller's context.
func startEngine(program string) (*engine, error) {
	cmd := command(context.Background(), program)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s %w: build it with make, or name it in the configuration: %w", program, errNotRunnable, err)
	}
	e := &engine{cmd: cmd, in: in, pipe: out, out: bufio.NewReaderSize(out, 1<<16), dead: make(chan struct{})}
	go func() { // ends when the child does
		// Not cmd.Wait, which closes the pipes under a reader; close does that.
		_, _ = cmd.Process.Wait()
		close(e.dead)
	}()
	return e, nil
}

// ask makes one request. After an error that is not *refused the engine is of no more use.
func (e *engine) ask(ctx context.Context, kind byte, body []byte) ([]byte, error) {
	if len(body) > maxBody {
		return nil, &refused{fmt.Sprintf("a request of %d bytes; at most %d are allowed", len(body), maxBody)}
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	// The child is killed when ctx ends, which ends the blocked read below.
	defer context.AfterFunc(ctx, e.kill)()
	answer, err := e.exchange(kind, body)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, err
}

func (e *engine) exchange(kind byte, body []byte) ([]byte, error) {
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 5+len(body)), uint32(len(body)))
	frame = append(append(frame, kind), body...)
	if _, err := e.in.Write(frame); err != nil {
		return nil, fmt.Errorf("the recogniser ended: %w", err)
	}
	var head [5]byte
	if _, err := io.ReadFull(e.out, head[:]); err != nil {
		return nil, fmt.Errorf("the recogniser ended: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxAnswer {
		return nil, fmt.Errorf("the recogniser answers with %d bytes; at most %d are allowed", n, maxAnswer)
	}
	answer := make([]byte, n)
	if _, err := io.ReadFull(e.out, answer); err != nil {
		return nil, fmt.Errorf("the recogniser ended: %w", err)
	}
	switch head[4] {
	case kind:
		return answer, nil
	case saysError:
		return nil, &refused{string(answer)}
	}
	return nil, errors.New("the recogniser answers something else than it was asked")
}

func (e *engine) kill() {
	select {
	case <-e.dead: // its process id may be somebody else's by now
	default:
		_ = syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// close ends the child and waits for its end.
func (e *engine) close() {
	e.once.Do(func() {
		e.kill()
		<-e.dead
		_ = e.in.Close()
		_ = e.pipe.Close()
	})
}
