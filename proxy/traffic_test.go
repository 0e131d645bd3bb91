package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ninja/ca"
	"ninja/internal/world"
)

// However many regions and proxies there are, and whether they answer or not, an hour of probes stays within a kilobit a
// second, counted as probeBytes each.
func TestProbesStayWithinAKilobit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var peers []Peer
		for i := range 200 {
			peers = append(peers, Peer{ca.ID(fmt.Sprint("spiffe://test/proxy/p", i)), fmt.Sprint("r", i%50), fmt.Sprint("a", i)})
		}
		probed, asked := make(map[string]int), 0
		p := &Prober{
			World: world.Real(),
			Peers: func(context.Context) ([]Peer, error) { asked++; return peers, nil },
			Probe: func(_ context.Context, address string) (time.Duration, error) {
				if probed[address]++; strings.HasSuffix(address, "7") {
					time.Sleep(probeTime)
					return 0, errors.New("no answer")
				}
				return time.Millisecond, nil
			},
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		p.run(ctx, self, func(map[string]float64) {})
		sum := 0
		for _, n := range probed {
			sum += n
		}
		rate := float64(sum*probeBytes*8) / time.Hour.Seconds()
		if t.Logf("%d probes of %d peers: %.0f bits a second; the peers were asked for %d times", sum, len(probed), rate, asked); rate > 1000 || sum < 600 || asked > 7 {
			t.Error("too much, or too little")
		}
	})
}

const inside = "NINJA_PROBE_INSIDE"

// A probe is what it is counted as: in a network of its own, all that the kernel carried is measured.
func TestAProbeIsSmall(t *testing.T) {
	if os.Getenv(inside) != "" {
		measureProbes(t)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	namespace := []string{"--net"}
	if os.Geteuid() != 0 {
		namespace = []string{"--user", "--map-root-user", "--net"}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", append(namespace, "sh", "-c", `ip link set lo up && exec "$0" "$@"`, exe, "-test.run=^TestAProbeIsSmall$", "-test.v")...)
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "bytes a probe") {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "bytes a probe") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func measureProbes(t *testing.T) {
	w := world.Real()
	l, err := w.Net.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // as a server does: it waits for a first word that never comes
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); c.Close() }(c)
		}
	}()
	p, before := &Prober{World: w}, carried(t)
	const probes = 200
	for range probes {
		if _, err := p.connectTime(t.Context(), l.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond) // the last farewells
	each := (carried(t) - before) / probes
	if t.Logf("%d bytes a probe, both ways, link headers included", each); each > probeBytes || each < 200 {
		t.Error("a probe is not what it is counted as")
	}
}

// carried is how many bytes the loopback interface has carried.
func carried(t *testing.T) (n int) {
	b, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}
