package cmd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ninja/apc"
	"ninja/ca"
	"ninja/capability"
	"ninja/cmd/home"
	"ninja/connectors"
	"ninja/connectors/rtp/external"
	"ninja/internal/world"
	"ninja/operators"
	"ninja/operators/host"
)

// cannon is who asks for paths that nobody consented to: by the path creator, and as a creator that has gone bad and leaves out
// every check of its own.
type cannon struct {
	t               *testing.T
	ann, mallory    *apc.Client
	evil            *host.Dialer                      // the bad creator's
	lent, stolen    []byte                            // capabilities: mallory's, given to the bad creator, and ann's, not given
	nodes           map[string]*operators.Description // by kind:name
	elsewhere       int                               // a port that no administrator allows
	willing, shut   int                               // ports that they allow; at one nobody answers a challenge
	open            []string                          // paths to there, the oldest first
	refused, silent int
}

// Threats, row 15: requests for paths without consent, of people and of a creator that has gone bad, to addresses and units and
// from them, send nobody a packet. The full count is 10^4 (NINJA_PROVE_SCALE=100).
func TestNoPathIsACannon(t *testing.T) {
	s := newSystem(t)
	willing, sound := heardAt(t)
	shut, silence := heardAt(t)
	elsewhere, anything := heardAt(t)
	const key = "a-secret-of-the-house"
	door, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answering, stop := context.WithCancel(context.Background())
	answered := make(chan error, 1)
	t.Cleanup(func() { stop(); <-answered })
	go func() { answered <- external.Answer(answering, door, key, uint16(willing)) }()

	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := func(principal string) string { return s.must("server/admin", "ninjactl", "token", "--for", principal) }
	rule := func(port int) string {
		return fmt.Sprintf("127.0.0.1:%d consent=%d key=%s", port, door.LocalAddr().(*net.UDPAddr).Port, key)
	}
	s.run("proxy", fmt.Sprintf("roles:\n  proxy: {name: p, join: %q, external: [%q, %q], acl: ['everyone: find, use', 'spiffe://test.ninja/user/ann: find, use, send-to']}\n",
		token("proxy/p"), rule(willing), rule(shut)))
	heard := filepath.Join(s.dir, "heard.wav")
	for name, acl := range map[string]string{
		"open": "find, use, listen-from", "mute": "find, use, send-to", "deaf": "find, use, listen-from", "hidden": "",
	} {
		lines := "[]"
		if acl != "" {
			lines = fmt.Sprintf("['everyone: %s']", acl)
		}
		s.run(name, fmt.Sprintf("roles:\n  unit: {name: %s, join: %q, hang-up: never, speaker: %s, acl: %s}\n", name, token("unit/"+name), heard, lines))
	}
	c := s.cannon(elsewhere, willing, shut)
	scale, _ := strconv.Atoi(os.Getenv("NINJA_PROVE_SCALE"))
	total := 100 * max(1, scale)
	begin := time.Now()
	for n := range total {
		c.fire(n)
	}
	took := time.Since(begin)
	time.Sleep(time.Second) // real packets take real time
	for name, n := range map[string]int64{"where nobody answers": silence.Load(), "where ann alone may send": sound.Load(), "elsewhere": anything.Load()} {
		if n != 0 {
			t.Errorf("%d packets came %s", n, name)
		}
	}
	if info, err := os.Stat(heard); err == nil && info.Size() > 44 {
		t.Errorf("a unit heard %d bytes", info.Size())
	}
	c.close(0)
	if c.refused+c.silent != total || c.silent == 0 {
		t.Errorf("of %d requests %d were refused and %d let wait for consent", total, c.refused, c.silent)
	}
	t.Logf("PROVE %d requests without consent in %v: %d refused, %d waited for a consent that did not come; packets of media: %d, %d, %d",
		total, took.Round(time.Millisecond), c.refused, c.silent, silence.Load(), sound.Load(), anything.Load())

	// The same request of who may, to who consents, is heard: what counts packets does count them.
	if _, err := c.ann.Create(t.Context(), apc.Request{Path: pathName(1 << 40), Line: fmt.Sprintf("phone:open ! rtp://127.0.0.1:%d/audio/PCMU", willing)}); err != nil {
		t.Fatal(err)
	}
	s.eventually("who consents hears sound", func() bool { return sound.Load() > 50 })
}

func pathName(n int) string { return fmt.Sprintf("%016x", n+1) }

// cannon joins those who ask.
func (s *system) cannon(elsewhere, willing, shut int) *cannon {
	t := s.t
	c := &cannon{t: t, elsewhere: elsewhere, willing: willing, shut: shut, nodes: make(map[string]*operators.Description)}
	evil := s.home("apc/evil")
	c.evil = host.NewDialer(evil.Identity, world.Real(), nil)
	t.Cleanup(func() { c.evil.Close() })
	ann, mallory := s.home("user/ann"), s.home("user/mallory")
	c.ann, c.mallory = c.client(s, ann), c.client(s, mallory)
	token := func(h *home.Home) []byte {
		rights, err := h.Rights(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		token, err := rights.Capability(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	c.stolen = token(ann)
	var err error
	if c.lent, err = capability.Narrow(token(mallory), mallory.Identity, capability.Narrowing{Ops: capability.All, Delegate: evil.Identity.Public()}); err != nil {
		t.Fatal(err)
	}
	return c
}

// home joins a principal of any kind.
func (s *system) home(principal string) *home.Home {
	s.t.Helper()
	s.must(principal, "ninjactl", "join", s.must("server/admin", "ninjactl", "token", "--for", principal), "--group", fmt.Sprintf("%s:%d", s.group, s.port), "--via", "127.0.0.1")
	h, err := home.Open(s.t.Context(), filepath.Join(s.dir, principal))
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

// client waits until somebody can find all nodes but the hidden one.
func (c *cannon) client(s *system, h *home.Home) (client *apc.Client) {
	s.eventually("all is published", func() bool {
		for _, want := range []string{"proxy:p", "phone:open", "phone:mute", "phone:deaf"} {
			kind, name, _ := strings.Cut(want, ":")
			found, err := h.Find(s.t.Context(), kind, name)
			if err != nil || len(found) != 1 {
				return false
			}
			c.nodes[want] = found[0]
		}
		var err error
		client, err = h.Creator(s.t.Context())
		return err == nil
	})
	s.t.Cleanup(func() { client.Close() })
	return client
}

// fire makes one of the requests.
func (c *cannon) fire(n int) {
	out := func(port int) string { return fmt.Sprintf("rtp://127.0.0.1:%d/audio/PCMU", port) }
	switch r := rand.IntN(12); r {
	case 0:
		c.ask(n, c.ann, "phone:open ! "+out(c.elsewhere), "may reach")
	case 1:
		c.ask(n, c.ann, fmt.Sprintf("phone:open ! rtp://127.%d.%d.%d:%d/audio/PCMU", rand.IntN(256), rand.IntN(256), 2+rand.IntN(253), c.willing), "may reach")
	case 2:
		c.ask(n, c.mallory, "phone:open ! "+out(c.willing), "may not send-to")
	case 3:
		c.ask(n, c.ann, "phone:mute ! "+out(c.willing), "listen-from")
	case 4:
		c.ask(n, c.mallory, "phone:open ! phone:deaf", "send-to")
	case 5:
		c.ask(n, c.mallory, "phone:open ! phone:hidden", "nothing that you may find")
	case 6:
		c.wait(n)
	case 7:
		c.command(n, "proxy:p", "proxy/p", c.lent, operators.ExternalOut, c.willing, "may not send-to")
	case 8:
		c.command(n, "proxy:p", "proxy/p", c.stolen, operators.ExternalOut, c.willing, "capability not valid")
	case 9:
		c.command(n, "phone:mute", "unit/mute", c.lent, "phone/microphone", 0, "may not listen-from")
	case 10:
		c.command(n, "phone:deaf", "unit/deaf", c.lent, "phone/speaker", 0, "may not send-to")
	default:
		c.command(n, "phone:deaf", "unit/deaf", c.stolen, "phone/speaker", 0, "capability not valid")
	}
}

// ask asks the path creator, which must refuse for the reason.
func (c *cannon) ask(n int, who *apc.Client, line, reason string) {
	_, err := who.Create(c.t.Context(), apc.Request{Path: pathName(n), Line: line})
	c.refuse(line, err, reason)
}

func (c *cannon) refuse(what string, err error, reason string) {
	if err == nil || !strings.Contains(err.Error(), reason) {
		c.t.Errorf("%s: %v, want %q", what, err, reason)
		return
	}
	c.refused++
}

// wait makes a path of who may, to an address that an administrator allows, where nobody consents. A few stay for a while.
func (c *cannon) wait(n int) {
	line := fmt.Sprintf("phone:open ! rtp://127.0.0.1:%d/audio/PCMU", c.shut)
	if _, err := c.ann.Create(c.t.Context(), apc.Request{Path: pathName(n), Line: line}); err != nil {
		c.t.Errorf("%s: %v", line, err)
		return
	}
	c.silent++
	c.open = append(c.open, pathName(n))
	c.close(8)
}

// close deletes paths until so many are left.
func (c *cannon) close(left int) {
	for len(c.open) > left {
		if _, err := c.ann.Delete(c.t.Context(), c.open[0]); err != nil {
			c.t.Errorf("delete %s: %v", c.open[0], err)
		}
		c.open = c.open[1:]
	}
}

// command has the bad creator command a node itself, which must refuse for the reason.
func (c *cannon) command(n int, where, id string, token []byte, program string, port int, reason string) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	what := fmt.Sprintf("%s commanded to run %s", where, program)
	session, err := c.evil.Open(ctx, c.nodes[where].Node.Control, ca.ID("spiffe://test.ninja/"+id))
	if err != nil {
		c.t.Errorf("%s: %v", what, err)
		return
	}
	defer session.Detach()
	end := &host.HopEnd{Hop: "h", Transport: "rtp", Type: connectors.MustType("audio/PCMU;channels=1;rate=8000"), Peer: "spiffe://test.ninja/unit/open"}
	stage := host.Stage{ID: "s", Program: program, In: end}
	if program == "phone/microphone" {
		stage.In, stage.Out = nil, end
	}
	if port != 0 {
		stage.Args = map[string]string{operators.ExternalAddress: fmt.Sprintf("127.0.0.1:%d", port)}
	}
	_, err = session.Prepare(ctx, host.Assignment{Path: "evil-" + pathName(n), Epoch: 1, Capability: token, Stages: []host.Stage{stage}})
	c.refuse(what, err, reason)
}
