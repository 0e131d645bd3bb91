package dds_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/base/dds"
	"ninja/base/dds/ddstest"
	"ninja/ca"
)

// victim is set in the process that the tests kill.
const victim = "NINJA_DDS_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(victim); path != "" {
		writeUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, dir string) ddstest.Store {
	t.Helper()
	e, err := dds.Open(filepath.Join(dir, "state", "tables.db"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestConformance(t *testing.T) { ddstest.Run(t, open) }

func TestASecondOneIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables.db")
	e, err := dds.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	begun := time.Now()
	if _, err := dds.Open(path); err == nil || !strings.Contains(err.Error(), "another process") || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("refused after %v", took)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

// writeUntilKilled counts in four keys and prints what was acknowledged.
func writeUntilKilled(path string) {
	e, err := dds.Open(path)
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	var out sync.Mutex
	for w := range 4 {
		go func() {
			for i := 1; ; i++ {
				key := strconv.Itoa(w)
				if _, err := e.Put(context.Background(), "t", key, []byte(strconv.Itoa(i))); err != nil {
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(key, i)
				out.Unlock()
			}
		}()
	}
	select {}
}

// What was acknowledged is there after kill -9, time after time.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tables.db")
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE")); err == nil && os.Getenv("NINJA_PROVE") == "1" {
		rounds *= n
	}
	for round := range rounds {
		acknowledged := killAfter(t, path, 60+20*round)
		e, err := dds.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for key, n := range acknowledged {
			v, _, err := e.Get(t.Context(), "t", key)
			if have, _ := strconv.Atoi(string(v)); err != nil || have != n && have != n+1 {
				t.Errorf("round %d: key %s is %q (%v), acknowledged was %d", round, key, v, err, n)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter runs the victim for a number of acknowledgements, kills it, and returns the last of each key.
func killAfter(t *testing.T, path string, writes int) map[string]int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), victim+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := map[string]int{}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if n == writes {
			cmd.Process.Kill()
		}
		key, count, ok := strings.Cut(lines.Text(), " ")
		if i, err := strconv.Atoi(count); ok && err == nil {
			last[key] = i
		}
	}
	cmd.Wait()
	if len(last) == 0 {
		t.Fatal("the victim wrote nothing")
	}
	return last
}

func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			e := open(b, b.TempDir())
			defer e.Close()
			b.SetParallelism(writers)
			value := make([]byte, 256)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := e.Put(b.Context(), "t", "key", value); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkRemote is a call from another process, mutual TLS, beside the same call on the engine.
func BenchmarkRemote(b *testing.B) {
	s := newServed(b, filepath.Join(b.TempDir(), "tables.db"))
	defer s.stop()
	c := s.dial(s.identity(ca.KindSDS, "s"))
	defer c.Close()
	value := make([]byte, 256)
	for _, at := range []struct {
		name  string
		store interface {
			dds.Writer
			Get(ctx context.Context, table, key string) ([]byte, uint64, error)
		}
	}{{"engine", s.engine}, {"client", c}} {
		b.Run("put/"+at.name, func(b *testing.B) {
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := at.store.Write(b.Context(), dds.Write{Table: "t", Key: "k", Value: value}); err != nil {
						b.Error(err)
					}
				}
			})
		})
		b.Run("get/"+at.name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := at.store.Get(b.Context(), "t", "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
