package cmd_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A path joins two text telephones that are no part of the system (the library mediastreamer2): what is typed on one
// appears on the other, which has consented by its reports.
func TestATypedPath(t *testing.T) {
	s := newSystem(t)
	typist := filepath.Join(s.dir, "typist")
	if out, err := exec.Command("gcc", "-o", typist, "../connectors/rtp/external/testdata/typist.c", "-lmediastreamer", "-lortp", "-lbctoolbox").CombinedOutput(); err != nil {
		t.Fatalf("%v %s (make checkers installs libmediastreamer-dev)", err, out)
	}
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := s.must("server/admin", "ninjactl", "token", "--for", "proxy/p")
	types, reads := evenPort(t), evenPort(t)
	s.run("proxy", fmt.Sprintf("roles:\n  proxy: {name: p, join: %q, external: ['127.0.0.1/32:%d rtcp', '127.0.0.1/32:%d rtcp'], acl: ['everyone: find, use, listen-from, send-to']}\n",
		token, types, reads))
	request := fmt.Sprintf("rtp://127.0.0.1:%d/text/t140;lang=en ! rtp://127.0.0.1:%d/text/t140;lang=en", types, reads)
	s.eventually("the path can be planned", func() bool { return s.tool("server/admin", "ninjactl", "path", "plan", request).code == 0 })
	var story screen
	background := func(out io.Writer, name string, args ...string) *exec.Cmd {
		c := exec.Command(name, args...)
		c.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, "server/admin"))
		c.Stdout, c.Stderr = out, io.Discard
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return c
	}
	watch := background(&story, filepath.Join(bin, "ninjactl"), "path", "create", "--watch", request)
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { watch.Process.Signal(os.Interrupt); watch.Wait() }()
	ours := regexp.MustCompile(`(?s)(from|to)-127\.0\.0\.1:\d+[^\n]*receives-at[^\n]*?rtp://127\.0\.0\.1:(\d+) text/t140`)
	ports := make(map[string]string)
	s.eventually("the path tells where its ends are", func() bool {
		for _, m := range ours.FindAllStringSubmatch(story.String(), -1) {
			ports[m[1]] = m[2]
		}
		return len(ports) == 2
	})
	const line = "meet me at the station"
	var read screen
	telephone := func(out io.Writer, at int, to string) (*exec.Cmd, io.WriteCloser) {
		c := background(out, typist, "127.0.0.1", fmt.Sprint(at), "127.0.0.1", to, "100", "99")
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); c.Wait() })
		return c, in
	}
	telephone(&read, reads, ports["to"])
	_, keys := telephone(io.Discard, types, ports["from"])
	begun := time.Now()
	io.WriteString(keys, line)
	s.eventually("what is typed appears", func() bool { return strings.Contains(read.String(), line) })
	t.Logf("PROVE a typed path: %q appeared within %v", read.String(), time.Since(begun).Round(100*time.Millisecond))
}

// screen is what a program shows, while it runs.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
