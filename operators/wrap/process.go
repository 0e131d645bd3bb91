package wrap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Where Debian's util-linux has the programs that set limits and then become the program.
const (
	setpriv = "/usr/bin/setpriv"
	prlimit = "/usr/bin/prlimit"
)

// process is a running program in its own folder, process group and, unless it may use the network, namespaces.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.Reader
	pipes  []io.Closer
	stderr *complaint
	folder string

	dead  chan struct{} // closed when it has ended
	err   error         // how, once dead is closed
	used  Usage         // by it, once dead is closed; its peak of memory may be known before
	once  sync.Once
	guard sync.Mutex // a process that has been waited for must not be killed: its number may be another's
}

// start starts a program. Limits are set before it runs its first instruction, by programs that then become it.
func (w *Wrapper) start(p Program) (*process, error) {
	folder, err := os.MkdirTemp(w.cfg.Folder, "wrapped-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for %s: %w", p.Path, err)
	}
	run := &process{folder: folder, stderr: &complaint{}, dead: make(chan struct{})}
	if err := run.start(p); err != nil {
		os.RemoveAll(folder)
		return nil, fmt.Errorf("start %s (is it there, and are user namespaces allowed to this node? else let it use the network): %w",
			p.Path, err)
	}
	return run, nil
}

func (r *process) start(p Program) error {
	args := append(limits(p), p.Path)
	cmd := exec.Command(setpriv, append(args, p.Args...)...)
	cmd.Dir = r.folder
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", "HOME=" + r.folder, "TMPDIR=" + r.folder}
	cmd.Stderr = r.stderr
	cmd.WaitDelay = time.Second
	attr, err := isolation(p, r.folder)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	// Not StdoutPipe, which Wait closes under a reader.
	out, childs, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = childs
	err = cmd.Start()
	childs.Close()
	if err != nil {
		out.Close()
		in.Close()
		return err
	}
	r.cmd, r.in, r.out, r.pipes = cmd, in, out, []io.Closer{in, out}
	go func() { // ends when the program does
		err := r.await()
		if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			r.err = err
		}
		close(r.dead)
	}()
	return nil
}

// await waits for the end of the program without freeing its number, kills what is left of its group, and then frees it.
func (r *process) await() error {
	pid := r.cmd.Process.Pid
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	r.guard.Lock()
	defer r.guard.Unlock()
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	err := r.cmd.Wait()
	if s := r.cmd.ProcessState; s != nil {
		r.used.CPU = s.UserTime() + s.SystemTime()
		// The peak that the kernel tells of a child begins with that of its parent at the fork: it says something only
		// when it is greater.
		if u, ok := s.SysUsage().(*syscall.Rusage); ok && u.Maxrss<<10 > peak("self") {
			r.used.Memory = max(r.used.Memory, u.Maxrss<<10)
		}
	}
	r.cmd = nil
	return err
}

// peak is the most memory that a process has had at once, in bytes; 0 when it is not known.
func peak(pid string) int64 {
	b, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err == nil {
				return n << 10
			}
		}
	}
	return 0
}

// limits are the arguments of setpriv that end in the program's own path. A program ends with its node, however that ends.
func limits(p Program) []string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	args := []string{"--no-new-privs", "--pdeathsig", "KILL", "--", prlimit, "--core=0", "--as=" + number(p.Memory), "--fsize=" + number(p.FileSize),
		"--nofile=" + number(p.Files), "--nproc=" + number(p.Processes)}
	if p.CPU > 0 {
		args = append(args, "--cpu="+number(uint64((p.CPU+time.Second-1)/time.Second)))
	}
	return append(args, "--")
}

// isolation keeps a program apart: a process group; namespaces of processes, whose end kills every process in them, of
// memory shared between processes, and of networks, in which there is no interface that is up. A node that is root gives
// its root away; one that is not makes the namespaces in a user namespace.
func isolation(p Program, folder string) (*syscall.SysProcAttr, error) {
	a := &syscall.SysProcAttr{Setpgid: true}
	a.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC
	if !p.Network {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	if os.Geteuid() == 0 {
		a.Credential = &syscall.Credential{Uid: p.User, Gid: p.User}
		return a, os.Chown(folder, int(p.User), int(p.User))
	}
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	return a, nil
}

// kill ends the program and its whole group.
func (r *process) kill() {
	r.guard.Lock()
	defer r.guard.Unlock()
	if r.cmd != nil {
		r.used.Memory = max(r.used.Memory, peak(strconv.Itoa(r.cmd.Process.Pid)))
		_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	}
}

// wait waits for the end of the program; the error says how it failed.
func (r *process) wait() error {
	<-r.dead
	return r.err
}

// close kills the program when it runs still, waits for its end and removes its folder. It may be called again.
func (r *process) close() {
	r.once.Do(func() {
		r.kill()
		for _, p := range r.pipes {
			p.Close()
		}
		<-r.dead
		_ = os.RemoveAll(r.folder)
	})
}

// said is what the program wrote to standard error, as the end of a sentence. It is taken after close or kill.
func (r *process) said() string {
	if s := r.stderr.String(); s != "" {
		return ": " + s
	}
	return ""
}

// complaint keeps the beginning of what a program complains of.
type complaint struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// maxComplaint is how much of it is kept, in bytes.
const maxComplaint = 512

// Write implements io.Writer; it takes everything.
func (t *complaint) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxComplaint - t.buf.Len(); room > 0 {
		t.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String is one printable line.
func (t *complaint) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return ' '
		}
		return r
	}, t.buf.String()))
}
