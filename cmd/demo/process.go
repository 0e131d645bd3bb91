package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stage is where the demo plays: the folder of its files and the programs beside its own.
type stage struct {
	out  string
	bin  string
	home string // NINJA_HOME of the user
	mu   sync.Mutex
	kids map[string]*exec.Cmd
	// tokens are those of the nodes that have joined already; a daemon that starts again has its identity.
	tokens map[string]string
}

// newStage clears the folder and finds the programs.
func newStage(out string) (*stage, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	return &stage{out: out, bin: filepath.Dir(self), home: filepath.Join(out, "user"),
		kids: make(map[string]*exec.Cmd), tokens: make(map[string]string)}, os.MkdirAll(out, 0o755)
}

// start runs a daemon with a configuration, its log beside it, and waits until it says that it is ready.
func (s *stage) start(ctx context.Context, name, config string) error {
	file := filepath.Join(s.out, name+".yaml")
	ready := filepath.Join(s.out, name+".ready")
	config = fmt.Sprintf("state: %s\nready: %s\n%s", filepath.Join(s.out, name), ready, config)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.out, name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.bin, "ninjad"), "run", file)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own keeps the terminal's ctrl-C from it: the demo stops its daemons itself. Should the demo be
	// killed, the kernel ends them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := os.Remove(ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.mu.Lock()
	s.kids[name] = cmd
	s.mu.Unlock()
	dead := make(chan error, 1)
	go func() { dead <- cmd.Wait() }()
	deadline := time.After(60 * time.Second)
	for {
		if _, err := os.Stat(ready); err == nil {
			return nil
		}
		select {
		case err := <-dead:
			return fmt.Errorf("%s ended before it was ready (%v): see %s", name, err, log.Name())
		case <-deadline:
			return fmt.Errorf("%s was not ready within a minute: see %s", name, log.Name())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// hangUp stops the telephone.
func (s *stage) hangUp() error {
	s.mu.Lock()
	phone := s.kids["phone"]
	delete(s.kids, "phone")
	s.mu.Unlock()
	_ = phone.Process.Signal(syscall.SIGTERM) // it may have ended already
	if !gone(phone, 8*time.Second) {
		_ = phone.Process.Kill()
		return errors.New("the telephone did not stop and was killed")
	}
	return nil
}

// stop ends every daemon, politely at first, and reports those that had to be killed.
func (s *stage) stop() error {
	for _, cmd := range s.kids {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	}
	var failed error
	for _, cmd := range s.kids {
		if !gone(cmd, 8*time.Second) {
			_ = cmd.Process.Kill()
			failed = errors.Join(failed, fmt.Errorf("process %d (%s) did not stop and was killed", cmd.Process.Pid, strings.Join(cmd.Args, " ")))
		}
	}
	return failed
}

// gone waits for a process that another goroutine reaps.
func gone(cmd *exec.Cmd, within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if errors.Is(cmd.Process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
			return true
		}
	}
	return false
}

// tool prepares one of the tools as the user.
func (s *stage) tool(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, args[0]), args[1:]...)
	cmd.Env = append(os.Environ(), "NINJA_HOME="+s.home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

// run runs a tool and returns what it printed; a failure carries what it complained of.
func (s *stage) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := s.tool(ctx, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out, nil
}

// as runs a tool with another home.
func (s *stage) as(ctx context.Context, home string, args ...string) (string, error) {
	other := &stage{out: s.out, bin: s.bin, home: filepath.Join(s.out, home)}
	out, err := other.run(ctx, args...)
	return strings.TrimSpace(string(out)), err
}

// into runs a tool and decodes the JSON that it prints.
func (s *stage) into(ctx context.Context, v any, args ...string) error {
	out, err := s.run(ctx, append(args, "--output", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, v)
}

// get reads a page of a daemon's own.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	return string(b), err
}
