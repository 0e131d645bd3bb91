package wrap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"ninja/connectors"
	"ninja/operators"
)

// Mode is how a program takes requests and gives answers.
type Mode string

// Modes.
const (
	// Document starts the program for each request: the request on its standard input, the answer on its standard output.
	Document Mode = "document"
	// Lines keeps one process: a request is a line and so is its answer. Line ends within a request become spaces.
	Lines Mode = "lines"
	// Framed keeps one process: requests and answers begin with their length, 32 bits in network byte order.
	Framed Mode = "framed"
)

// Program is an entry of a node's list of programs.
type Program struct {
	// Path is the program's absolute path, Args what it is given. No shell is involved.
	Path string
	Args []string
	// Mode is how it is spoken to; "" is Document.
	Mode Mode
	// Memory bounds its address space and FileSize each file that it writes, in bytes; 0 are 512 MiB and 16 MiB.
	Memory, FileSize uint64
	// CPU bounds its processor time in whole seconds, rounded up; 0 is 10 s in mode Document and no bound in the others.
	CPU time.Duration
	// Processes and Files bound how many it may have; 0 are 32 and 64.
	Processes, Files uint64
	// Network lets it use the node's network. Without it, it has none, not even loopback.
	Network bool
	// User is the user and group that it runs as when the node runs as root; 0 is 65534 (nobody).
	User uint32
}

func (p Program) withDefaults() (Program, error) {
	if p.Mode == "" {
		p.Mode = Document
	}
	switch {
	case !filepath.IsAbs(p.Path):
		return p, fmt.Errorf("path %q: an absolute path is wanted", p.Path)
	case !slices.Contains([]Mode{Document, Lines, Framed}, p.Mode):
		return p, fmt.Errorf("mode %q: want %s, %s or %s", p.Mode, Document, Lines, Framed)
	case p.CPU < 0:
		return p, fmt.Errorf("processor time of %v", p.CPU)
	}
	for _, d := range []struct {
		value *uint64
		usual uint64
	}{{&p.Memory, 512 << 20}, {&p.FileSize, 16 << 20}, {&p.Processes, 32}, {&p.Files, 64}} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if p.CPU == 0 && p.Mode == Document {
		p.CPU = 10 * time.Second
	}
	if p.User == 0 {
		p.User = 65534
	}
	p.Args = slices.Clone(p.Args)
	return p, nil
}

// makeProgram is the factory of wrapped programs. It starts nothing: running the operator does.
func (w *Wrapper) makeProgram(_ context.Context, env operators.Env) (operators.Operator, error) {
	if err := checkArgs(env.Args, []string{"key"}); err != nil {
		return nil, err
	}
	p, ok := w.cfg.Programs[env.Args["key"]]
	if !ok {
		return nil, fmt.Errorf("the list of this node has no program %.40q: its operator can add one", env.Args["key"])
	}
	key := env.Args["key"]
	if p.Mode == Document {
		return w.operator(env, &documents{w: w, key: key, program: p}), nil
	}
	return w.operator(env, &conversation{w: w, key: key, program: p}), nil
}

// documents starts a process for each request.
type documents struct {
	w       *Wrapper
	key     string
	program Program
}

func (d *documents) ask(ctx context.Context, payload []byte) ([]byte, error) {
	p, err := d.w.start(d.program)
	if err != nil {
		return nil, err
	}
	defer p.close()
	defer context.AfterFunc(ctx, p.kill)()
	fed := make(chan struct{})
	go func() { // ends when the program has read all or is gone
		defer close(fed)
		_, _ = p.in.Write(payload) // a program may answer without reading
		p.in.Close()
	}()
	answer, err := io.ReadAll(io.LimitReader(p.out, connectors.MaxPayload+1))
	if err == nil && len(answer) > connectors.MaxPayload {
		err = tooLong()
		p.kill()
	}
	if err == nil {
		err = p.wait() // it has closed its output; what it does now is to end, or ctx kills it
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer in time: %w", ctx.Err())
	}
	p.close()
	<-fed
	d.w.account(d.key, p.used)
	if err != nil {
		return nil, fmt.Errorf("program %s: %w%s", d.program.Path, err, p.said())
	}
	return answer, nil
}

func (d *documents) close() {}

// conversation keeps a process as long as it answers.
type conversation struct {
	w       *Wrapper
	key     string
	program Program
	process *process // nil when none runs
	out     *bufio.Reader
}

// warm starts the process before the first request comes. What is wrong with it the first request will say.
func (c *conversation) warm() {
	if p, err := c.w.start(c.program); err == nil {
		c.process, c.out = p, bufio.NewReaderSize(p.out, 64<<10)
	}
}

func (c *conversation) ask(ctx context.Context, payload []byte) ([]byte, error) {
	fresh := c.process == nil
	answer, err := c.exchange(ctx, payload)
	if err != nil && !fresh && ctx.Err() == nil {
		// The process may have ended while nobody asked: a new one gets the same request once.
		c.close()
		answer, err = c.exchange(ctx, payload)
	}
	if err == nil {
		return answer, nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer in time: %w", ctx.Err())
	}
	said := ""
	if c.process != nil {
		c.process.kill()
		said = c.process.said()
	}
	c.close() // what it may still say would be taken for the answer to another request
	return nil, fmt.Errorf("program %s: %w%s", c.program.Path, err, said)
}

func (c *conversation) exchange(ctx context.Context, payload []byte) ([]byte, error) {
	if c.process == nil {
		p, err := c.w.start(c.program)
		if err != nil {
			return nil, err
		}
		c.process, c.out = p, bufio.NewReaderSize(p.out, 64<<10)
	}
	defer context.AfterFunc(ctx, c.process.kill)()
	if c.program.Mode == Lines {
		return c.line(payload)
	}
	return c.frame(payload)
}

// write feeds the process while its answer is read: both pipes may be full.
func (c *conversation) write(request []byte, read func() ([]byte, error)) ([]byte, error) {
	written := make(chan error, 1)
	in := c.process.in
	go func() {
		_, err := in.Write(request)
		written <- err
	}()
	answer, err := read()
	if err != nil {
		c.process.kill() // ends a blocked write
	}
	if werr := <-written; err == nil && werr != nil {
		err = werr
	}
	return answer, err
}

func (c *conversation) line(payload []byte) ([]byte, error) {
	line := append(bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, payload), '\n')
	return c.write(line, func() ([]byte, error) {
		var answer []byte
		for {
			part, err := c.out.ReadSlice('\n')
			answer = append(answer, part...)
			switch {
			case len(answer) > connectors.MaxPayload:
				return nil, tooLong()
			case err == nil:
				return bytes.TrimRight(answer, "\r\n"), nil
			case !errors.Is(err, bufio.ErrBufferFull):
				return nil, ended(err)
			}
		}
	})
}

func (c *conversation) frame(payload []byte) ([]byte, error) {
	request := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(payload)), uint32(len(payload)))
	return c.write(append(request, payload...), func() ([]byte, error) {
		var head [4]byte
		if _, err := io.ReadFull(c.out, head[:]); err != nil {
			return nil, ended(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > connectors.MaxPayload {
			return nil, tooLong()
		}
		answer := make([]byte, n)
		if _, err := io.ReadFull(c.out, answer); err != nil {
			return nil, ended(err)
		}
		return answer, nil
	})
}

func ended(err error) error { return fmt.Errorf("it ended without an answer: %w", err) }

func (c *conversation) close() {
	if c.process != nil {
		c.process.close()
		c.w.account(c.key, c.process.used)
		c.process = nil
	}
}
