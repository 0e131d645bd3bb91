package cmd_test

import (
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ninja/operators/audio"
)

// A path ends at an address where GStreamer, which is no part of the system, receives. It is sent nothing before it shows
// the name that the proxy's administrator wants, and then hears what the telephone says, in its own format.
func TestPathToAnAddress(t *testing.T) {
	s := newSystem(t)
	s.run("server", fmt.Sprintf("roles:\n  ca: {domain: test.ninja}\n  capability: {}\n  sds: {channel: '%s:%d', period: 1s}\n  apc: {}\n", s.group, s.port+1))
	token := func(principal string) string { return s.must("server/admin", "ninjactl", "token", "--for", principal) }
	said := filepath.Join(s.dir, "said.wav")
	samples := make([]int16, 20*16000)
	for i := range samples {
		samples[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/16000))
	}
	write(t, said, string(audio.WAV(audio.Format{Rate: 16000, Channels: 1}, samples)))
	at := evenPort(t)
	acl := "acl: ['everyone: find, use, listen-from, send-to']"
	s.run("proxy", fmt.Sprintf("roles:\n  proxy: {name: p, join: %q, external: ['127.0.0.1/32:%d cname=studio-one'], %s}\n  unit: {name: u, join: %q, microphone: %s, hang-up: never, %s}\n",
		token("proxy/p"), at, acl, token("unit/u"), said, acl))
	request := fmt.Sprintf("phone:u ! rtp://127.0.0.1:%d/audio/L16;channels=1;rate=16000", at)
	s.eventually("the path can be planned", func() bool { return s.tool("server/admin", "ninjactl", "path", "plan", request).code == 0 })
	watch := exec.Command(filepath.Join(bin, "ninjactl"), "path", "create", "--watch", request)
	watch.Env = append(os.Environ(), "NINJA_HOME="+filepath.Join(s.dir, "server/admin"))
	story := filepath.Join(s.dir, "watch.log")
	log, err := os.Create(story)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	watch.Stdout, watch.Stderr = log, log
	watch.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { watch.Process.Signal(os.Interrupt); watch.Wait() }()

	heard := filepath.Join(s.dir, "heard.wav")
	ours := ""
	s.eventually("the path tells where its end is", func() bool {
		b, err := os.ReadFile(story)
		_, after, ok := strings.Cut(string(b), "rtp://127.0.0.1:")
		for ok && err == nil {
			port, rest, _ := strings.Cut(after, " ")
			if strings.HasPrefix(rest, "audio/L16") {
				ours = port
				return true
			}
			_, after, ok = strings.Cut(after, "rtp://127.0.0.1:")
		}
		return false
	})
	var control int
	fmt.Sscan(ours, &control)
	gst := exec.Command("gst-launch-1.0", strings.Fields(fmt.Sprintf(`-q -e rtpbin name=b latency=100 sdes=application/x-rtp-source-sdes,cname=(string)"studio-one" `+
		`udpsrc address=127.0.0.1 port=%[1]d caps=application/x-rtp,media=audio,encoding-name=L16,clock-rate=16000,channels=1,payload=96 ! b.recv_rtp_sink_0 `+
		`b.send_rtcp_src_0 ! udpsink host=127.0.0.1 port=%[2]d bind-address=127.0.0.1 bind-port=%[3]d sync=false async=false `+
		`b. ! rtpL16depay ! audioconvert ! audio/x-raw,format=S16LE ! wavenc ! filesink location=%[4]s`, at, control+1, at+1, heard))...)
	gst.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := gst.Start(); err != nil {
		t.Fatalf("%v (make checkers installs it)", err)
	}
	s.eventually("a second has been heard", func() bool {
		info, err := os.Stat(heard)
		return err == nil && info.Size() > 32000
	})
	gst.Process.Signal(os.Interrupt)
	gst.Wait()
	b, err := os.ReadFile(heard)
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := audio.ParseWAV(b)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, v := range got[len(got)/2:] {
		sum += float64(v) * float64(v)
	}
	db := 20 * math.Log10(math.Sqrt(sum/float64(len(got)-len(got)/2))/(8000/math.Sqrt2))
	t.Logf("PROVE a path to an address: GStreamer heard %v at %+.2f dB", time.Duration(len(got))*time.Second/16000, db)
	if math.Abs(db) > 1 {
		t.Errorf("the level is %.2f dB off", db)
	}
}

// evenPort is a port that was free a moment ago, and so was the next.
func evenPort(t *testing.T) int {
	for {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if p := c.LocalAddr().(*net.UDPAddr).Port; p%2 == 0 {
			return p
		}
	}
}
