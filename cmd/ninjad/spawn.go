package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"ninja/ca"
	"ninja/internal/world"
	"ninja/sds/tree"
)

// spawnConfig is when the SDS server starts another one to share its load.
type spawnConfig struct {
	// Services is how many it keeps, Queries how many it answers in a second, before it spawns; 0 is no limit.
	Services int     `yaml:"services"`
	Queries  float64 `yaml:"queries"`
	// Most is how many it spawns.
	Most int `yaml:"most"`
	// Tokens are join tokens, or @FILEs, for sds/NAME-1, sds/NAME-2 and so on; not needed where this daemon plays the ca.
	Tokens []string `yaml:"tokens"`
}

// supervisor starts servers as processes of this program.
type supervisor struct {
	d    *daemon
	role sdsRole
	ca   string // addresses
	caps string
}

// process is a server that was started.
type process struct {
	address string
	cmd     *exec.Cmd
	ended   chan struct{}
	stop    sync.Once
}

func (p *process) Address() string        { return p.address }
func (p *process) Ended() <-chan struct{} { return p.ended }

// Stop asks the process to end, and waits for it to have ended.
func (p *process) Stop() {
	p.stop.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(2*stopTime, func() { _ = p.cmd.Process.Kill() })
		defer kill.Stop()
		<-p.ended
	})
}

// Spawn implements tree.Spawner.
func (s *supervisor) Spawn(ctx context.Context, seed tree.Seed) (tree.Spawned, error) {
	state := s.d.dir(filepath.Join("spawned", seed.Name))
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	join, err := s.identity(seed, state)
	if err != nil {
		return nil, err
	}
	file, ready := filepath.Join(state, "ninjad.yaml"), filepath.Join(state, "ready")
	b, err := yaml.Marshal(s.config(seed, state, ready, join))
	if err == nil {
		err = os.WriteFile(file, b, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, "run", file)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	s.d.parts.Go(func() { _ = cmd.Wait(); close(p.ended) })
	if p.address, err = s.await(ctx, p, ready); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// identity gives a server its identity, by this daemon's own authority or by a token, which it returns.
func (s *supervisor) identity(seed tree.Seed, state string) (join string, err error) {
	dir := filepath.Join(state, ca.KindSDS+"-"+seed.Name)
	if _, err := os.Stat(dir); err == nil {
		return "", nil // it has one from before
	}
	if s.d.authority != nil {
		id, err := s.d.authority.OpenIdentity(ca.KindSDS, seed.Name, dir)
		if err == nil {
			err = id.RenewedBy(s.ca).Save(dir)
		}
		return "", err
	}
	var i int
	if _, err := fmt.Sscanf(seed.Name, s.role.Name+"-%d", &i); err != nil || i < 1 || i > len(s.role.Spawn.Tokens) {
		return "", fmt.Errorf("no join token for sds/%s: make one (ninjactl token --for sds/%s) and add it to roles.sds.spawn.tokens", seed.Name, seed.Name)
	}
	return s.role.Spawn.Tokens[i-1], nil
}

// config is the configuration of a server that is started: this daemon's, for a part of its extent.
func (s *supervisor) config(seed tree.Seed, state, ready, join string) map[string]any {
	d := s.d.cfg
	sds := map[string]any{
		"name": seed.Name, "channel": s.role.Channel, "networks": s.role.Networks, "kinds": seed.Extent.Kinds, "owners": seed.Extent.Owners.String(), "period": s.role.Period.String(),
		"ca": s.ca, "capability": s.caps, "spawned-by": string(seed.Parent),
		"parents": []map[string]any{{"hierarchy": seed.Hierarchy, "addresses": []string{seed.Address}}},
	}
	if join != "" {
		sds["join"] = join
	}
	return map[string]any{
		"state": state, "host": d.Host, "ready": ready, "log": map[string]string{"level": d.Log.Level, "format": d.Log.Format},
		"discovery": map[string]string{"group": d.Discovery.Group, "via": d.Discovery.Via}, "roles": map[string]any{"sds": sds},
	}
}

// await waits until a server says that it is ready, and where.
func (s *supervisor) await(ctx context.Context, p *process, ready string) (string, error) {
	for {
		if b, err := os.ReadFile(ready); err == nil {
			var roles map[string]string
			if err := json.Unmarshal(b, &roles); err != nil {
				return "", err
			}
			return roles[ca.KindSDS], nil
		}
		select {
		case <-p.ended:
			return "", fmt.Errorf("it ended before it was ready: its log lines say why")
		default:
		}
		if err := world.Sleep(ctx, 20*time.Millisecond); err != nil {
			return "", err
		}
	}
}
