package external

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ninja/operators/audio"
)

// namespace is a network namespace joined to this one by a pair of interfaces, for programs that refuse loopback.
func namespace(t *testing.T) (name string, ours, theirs netip.Addr) {
	t.Helper()
	n := rand.IntN(200) + 20
	name = fmt.Sprintf("ninja-rtp-%d-%d", os.Getpid(), n)
	ours, theirs = netip.AddrFrom4([4]byte{10, 251, byte(n), 1}), netip.AddrFrom4([4]byte{10, 251, byte(n), 2})
	mine, peer := fmt.Sprintf("nr%da", n), fmt.Sprintf("nr%db", n)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() }) // the pair goes with it
	for _, line := range []string{
		"netns add " + name,
		"link add " + mine + " type veth peer name " + peer + " netns " + name,
		"addr add " + ours.String() + "/24 dev " + mine,
		"link set " + mine + " up",
		"-n " + name + " addr add " + theirs.String() + "/24 dev " + peer,
		"-n " + name + " link set " + peer + " up",
		"-n " + name + " link set lo up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", line, err, out)
		}
	}
	return name, ours, theirs
}

// baresipHome is its files: no account beyond the one that calls, a WAV file for a microphone, and what it hears recorded.
func baresipHome(t *testing.T, at netip.Addr) (dir string) {
	t.Helper()
	dir = t.TempDir()
	said := append(toneSamples(8000), make([]int16, 30*8000)...)
	microphone := filepath.Join(dir, "said.wav")
	if err := os.WriteFile(microphone, audio.WAV(audio.Format{Rate: 8000, Channels: 1}, said), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`sip_listen %s:5060
audio_player aubridge,nowhere
audio_source aufile,%s
audio_alert aubridge,nowhere
snd_path %s
audio_srate 8000
audio_channels 1
rtcp_enable yes
rtcp_mux no
jitter_buffer_delay 5-10
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
`, at, microphone, dir)
	for name, text := range map[string]string{
		"config": config, "contacts": "", "accounts": fmt.Sprintf("<sip:phone@%s>;regint=0;audio_codecs=PCMU;mediaenc=\n", at),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// callee answers one call by SIP (RFC 3261), no more than the test wants: 200 with our session description. It returns
// where the caller receives.
func callee(ctx context.Context, t *testing.T, c net.PacketConn, sdp string) netip.AddrPort {
	t.Helper()
	b := make([]byte, 4000)
	for {
		deadline, _ := ctx.Deadline()
		c.SetReadDeadline(deadline)
		n, from, err := c.ReadFrom(b)
		if err != nil {
			t.Fatal("no call comes: ", err)
		}
		text := string(b[:n])
		if !strings.HasPrefix(text, "INVITE ") {
			continue
		}
		head, body, _ := strings.Cut(text, "\r\n\r\n")
		reply := "SIP/2.0 200 OK\r\n"
		for _, line := range strings.Split(head, "\r\n")[1:] {
			name, _, _ := strings.Cut(line, ":")
			switch strings.ToLower(name) {
			case "via", "v", "from", "f", "call-id", "i", "cseq":
				reply += line + "\r\n"
			case "to", "t":
				reply += line + ";tag=ninja\r\n"
			}
		}
		reply += fmt.Sprintf("Contact: <sip:ninja@%s>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", c.LocalAddr(), len(sdp), sdp)
		if _, err := c.WriteTo([]byte(reply), from); err != nil {
			t.Fatal(err)
		}
		var port uint16
		for line := range strings.Lines(body) {
			fmt.Sscanf(line, "m=audio %d ", &port)
		}
		return netip.AddrPortFrom(addrOf(from).Addr(), port)
	}
}

// A telephone that nobody here wrote is called from, understood, and spoken to once it has consented by its reports.
func TestTelephone(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Log("only root may make the namespace that baresip runs in, so it is not asked")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	ns, ours, theirs := namespace(t)
	sip, err := net.ListenPacket("udp", ours.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer sip.Close()
	e := newEdge(t, theirs.String()+"/32:1024-65535 rtcp")
	e.cfg.Local = ours
	// Where we receive must be said before the telephone says where it does: it gets the socket of a first session.
	first := open(t, e, Call{Silence: 2 * time.Second})
	at, sdp := first.Addr(), first.SDP(first.Addr())
	first.Close()
	dir := baresipHome(t, theirs)
	p := run(t, "ip", "netns", "exec", ns, "baresip", "-4", "-f", dir, "-e", "/dial sip:ninja@"+sip.LocalAddr().String())
	remote := callee(ctx, t, sip, sdp)
	s := open(t, e, Call{Remote: "rtp://" + remote.String(), Local: at.Port(), Silence: 2 * time.Second})
	spoken := make(chan error, 1)
	go func() {
		m := kinds()[0]
		var err error
		for _, a := range m.encoded(ctx, t) {
			if err = s.Writer().Write(ctx, a); err != nil {
				break
			}
		}
		spoken <- err
	}()
	var samples []int16
	law := audio.MuLaw()
	for len(samples) < 8000*10 && measure(samples, 8000).length < toneFor {
		a, err := s.Reader().Read(ctx)
		if err != nil {
			t.Fatalf("after %d samples: %v\n%s", len(samples), err, p.said)
		}
		samples = audio.Samples(samples, law.Decode(append([]byte(nil), a.Payload...)))
	}
	measure(samples, 8000).compare(t, "baresip says PCMU")
	if err := <-spoken; err != nil {
		t.Fatalf("%v\n%s", err, p.said)
	}
	time.Sleep(300 * time.Millisecond)
	p.stop()
	all, err := filepath.Glob(filepath.Join(dir, "*-dec.wav"))
	if err != nil || len(all) != 1 {
		t.Fatalf("recorded: %v %v\n%s", all, err, p.said)
	}
	b, err := os.ReadFile(all[0])
	if err != nil {
		t.Fatal(err)
	}
	f, out, err := audio.ParseWAV(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.said)
	}
	measure(out, f.Rate).compare(t, "baresip hears PCMU")
}
