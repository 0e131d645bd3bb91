package speech

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// runLimit is how long one call of a helper program may take.
	runLimit = 15 * time.Second
	// runMemory is its address space in bytes.
	runMemory = 512 << 20
	// maxText is the longest text that one call gets, maxOutput the most that it may answer with.
	maxText   = 1 << 20
	maxOutput = 32 << 20
)

// errNotRunnable marks a program that could not be started at all, as against one that failed.
var errNotRunnable = errors.New("cannot be started")

// command prepares a program: its own process group, no environment but the locale, killed as a group.
func command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// run gives text to a program and returns what it writes to standard output. When file is set, the program is given one
// more place to write to, /proc/self/fd/3 (in memory), and what it wrote there is returned instead: for programs that
// must seek in their output.
func run(ctx context.Context, text string, file bool, program string, args ...string) ([]byte, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("run %s on %d bytes of text: at most %d are allowed", program, len(text), maxText)
	}
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	cmd := command(ctx, program, args...)
	cmd.Stdin = strings.NewReader(text)
	out := &limited{left: maxOutput}
	cmd.Stdout = out
	var result *os.File
	if file {
		fd, err := unix.MemfdCreate("speech", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("make a file in memory: %w", err)
		}
		result = os.NewFile(uintptr(fd), "speech")
		defer result.Close()
		cmd.ExtraFiles = []*os.File{result}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s %w (is it installed?): %w", program, errNotRunnable, err)
	}
	limit(cmd.Process.Pid, file)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("run %s: %w", program, err)
	}
	if !file {
		return out.buf.Bytes(), nil
	}
	if _, err := result.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read what %s wrote: %w", program, err)
	}
	return io.ReadAll(io.LimitReader(result, maxOutput))
}

// limit bounds memory, dumps and, when it writes a file, the file of a program that has just been started. It may have
// ended already. (espeak-ng must not get a limit of files: its sound library makes a large sparse one at start.)
func limit(pid int, file bool) {
	set := func(resource int, most uint64) {
		_ = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil)
	}
	set(unix.RLIMIT_AS, runMemory)
	set(unix.RLIMIT_CORE, 0)
	if file {
		set(unix.RLIMIT_FSIZE, maxOutput)
	}
}

// limited is a buffer that refuses to grow beyond a bound.
type limited struct {
	buf  bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, errors.New("the program writes too much")
	}
	l.left -= len(p)
	return l.buf.Write(p)
}
