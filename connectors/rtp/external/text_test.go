package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pionrtp "github.com/pion/rtp"

	"ninja/connectors"
	"ninja/connectors/rtp"
)

const t140 = "text/t140;lang=en"

// telephone is a text telephone that is the library mediastreamer2 and nothing of ours (testdata/typist.c).
type telephone struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	heard bytes.Buffer
	said  bytes.Buffer // what the library logs
}

// newTelephone runs one that receives at local; red is the payload type of the redundancy, and that of the text where it
// speaks without.
func newTelephone(t *testing.T, local, remote netip.AddrPort, red, text uint8) *telephone {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "typist")
	out, err := exec.Command("gcc", "-o", bin, "testdata/typist.c", "-lmediastreamer", "-lortp", "-lbctoolbox").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s (make checkers installs libmediastreamer-dev)", err, out)
	}
	p := &telephone{cmd: exec.Command(bin, local.Addr().String(), fmt.Sprint(local.Port()), remote.Addr().String(),
		fmt.Sprint(remote.Port()), fmt.Sprint(red), fmt.Sprint(text))}
	p.cmd.Stdout, p.cmd.Stderr = &p.heard, &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	return p
}

// hangUp lets it end in order.
func (p *telephone) hangUp(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	kill := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &p.said)
	}
}

// typedLine is what is typed; more than one packet says it.
const typedLine = "From 12 Main Street to the station, and from there to the market by way of the park.\n"

// read reads text until it has what is wanted, or as long as that must take at most.
func readText(ctx context.Context, t *testing.T, s *Session, wanted string) (got string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for len(got) < len(wanted) {
		a, err := s.Reader().Read(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got += string(a.Payload)
	}
	return got
}

// A text telephone that nobody here wrote types, with redundancy and without, and over a link that loses two packets of
// three: all is read. What we type appears on it, once it has consented by its reports.
func TestOthersType(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		red, text uint8
		lose      bool
	}{{"with redundancy", 100, 99, false}, {"without", 99, 99, false}, {"with loss", 100, 99, true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			at := freePair(t)
			s := open(t, newEdge(t, "127.0.0.1/32:1-65535"), Call{Type: connectors.MustType(t140)})
			to := s.Addr()
			if tc.lose {
				to = sieve(t, to)
			}
			p := newTelephone(t, at, to, tc.red, tc.text)
			io.WriteString(p.stdin, typedLine)
			got := readText(ctx, t, s, typedLine)
			p.hangUp(t)
			if got != typedLine {
				t.Errorf("read %q of %q\n%s", got, typedLine, &p.said)
			}
			t.Logf("PROVE mediastreamer2 types %s: %d of %d characters read", tc.name, len(got), len(typedLine))
		})
	}
	t.Run("and reads", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		at := freePair(t)
		s := open(t, newEdge(t, at.String()+" rtcp"), Call{Remote: "rtp://" + at.String(), Type: connectors.MustType(t140)})
		p := newTelephone(t, at, s.Addr(), 100, 99)
		const text = "Turn left – then 200 m ahead.\u2028"
		for _, word := range strings.SplitAfter(text, " ") {
			if err := s.Writer().Write(ctx, connectors.ADU{Payload: []byte(word)}); err != nil {
				t.Fatalf("%v\n%s", err, &p.said)
			}
		}
		io.WriteString(p.stdin, "Thanks")
		if got := readText(ctx, t, s, "Thanks"); got != "Thanks" {
			t.Errorf("read %q", got)
		}
		s.Writer().Close()
		p.hangUp(t)
		if got := p.heard.String(); got != text {
			t.Errorf("it shows %q of %q\n%s", got, text, &p.said)
		}
		t.Logf("PROVE mediastreamer2 reads %q", p.heard.String())
	})
}

// sieve passes on to an address the first datagrams, until a source counts as one, and then one in three.
func sieve(t *testing.T, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-done })
	go func() {
		defer close(done)
		b := make([]byte, 2000)
		for n := 0; ; n++ {
			size, err := c.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && (n < 5 || n%3 == 0) {
				c.WriteToUDPAddrPort(b[:size], to)
			}
		}
	}()
	return addrOf(c.LocalAddr())
}

// packets reads the packets of RTP that a program is sent, until it has n of them.
func (p program) packets(t *testing.T, n int) (all []pionrtp.Packet) {
	t.Helper()
	for len(all) < n {
		b, _ := p.next(5 * time.Second)
		if b == nil {
			t.Fatalf("%d packets of %d", len(all), n)
		}
		var one pionrtp.Packet
		if isMedia(b) && one.Unmarshal(append([]byte(nil), b...)) == nil {
			all = append(all, one)
		}
	}
	return all
}

// consents answers the first challenge.
func (p program) consents(t *testing.T) {
	t.Helper()
	b, from := p.next(5 * time.Second)
	m, err := parseSTUN(b)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	p.WriteTo(appendSTUN(nil, stunSuccess, m.id, "", ""), from)
}

// What is typed is repeated twice, also when nothing follows; the packets are those of RFC 4103 on the wire.
func TestTextRepeatsItself(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	s := open(t, newEdge(t, p.at.String()), Call{Remote: "rtp://" + p.at.String(), Type: connectors.MustType(t140), PayloadType: 102, TextType: 103})
	written := make(chan error, 1)
	go func() { written <- s.Writer().Write(t.Context(), connectors.ADU{Payload: []byte("hé")}) }()
	p.consents(t)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	all := p.packets(t, 3)
	for i, want := range []string{"\x67hé", "\xe7....\x67hé", "\xe7....\xe7....\x67hé"} {
		got := string(all[i].Payload)
		if len(got) != len(want)-i || all[i].PayloadType != 102 || got[0] != want[0] || !strings.HasSuffix(got, "hé") {
			t.Errorf("packet %d is of type %d: %q", i, all[i].PayloadType, got)
		}
		if i > 0 && (all[i].SequenceNumber != all[0].SequenceNumber+uint16(i) || all[i].Timestamp-all[0].Timestamp < uint32(i)*300) {
			t.Errorf("packet %d has number %d at %d, the first %d at %d", i, all[i].SequenceNumber, all[i].Timestamp, all[0].SequenceNumber, all[0].Timestamp)
		}
		if all[i].Marker != (i == 0) {
			t.Errorf("packet %d: marker %v", i, all[i].Marker)
		}
	}
	const maps = "m=text %d RTP/AVP 102 103\r\na=rtpmap:102 red/1000\r\na=fmtp:102 103/103/103\r\na=rtpmap:103 t140/1000\r\n"
	if sdp := s.SDP(s.Addr()); !strings.HasSuffix(sdp, fmt.Sprintf(maps, s.Addr().Port())) {
		t.Errorf("%q", sdp)
	}
}

// No program is sent more than 300 characters in ten seconds, whatever is written.
func TestTextKeepsToWhatProgramsTake(t *testing.T) {
	x := rtp.NewText(99)
	now := time.Unix(1_700_000_000, 0)
	begun, rest := now, []byte(strings.Repeat("é", 1000))
	var sent []time.Time
	for len(rest) > 0 {
		n, wait := x.Next(now, rest)
		x.Pack(now, rest[:n])
		for range n / 2 {
			sent = append(sent, now)
		}
		rest = rest[n:]
		now = now.Add(wait)
	}
	for i := range sent {
		if i >= 300 && sent[i].Sub(sent[i-300]) < 10*time.Second {
			t.Fatalf("character %d follows that 300 before it by %v", i, sent[i].Sub(sent[i-300]))
		}
	}
	if took := now.Sub(begun); took != 30*time.Second {
		t.Errorf("1000 characters took %v", took)
	}
}

// A typist who pauses is not given up; a program that begins anew is heard, with what its first packet repeats.
func TestTypistsPause(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	s := open(t, newEdge(t, p.at.Addr().String()+"/32:1-65535"), Call{Type: connectors.MustType(t140)})
	say := func(number uint16, payload string) {
		b, err := (&pionrtp.Packet{Header: pionrtp.Header{Version: 2, PayloadType: 100, SequenceNumber: number, SSRC: 9}, Payload: []byte(payload)}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		p.WriteTo(b, net.UDPAddrFromAddrPort(s.Addr()))
	}
	say(7, "\xe3\x00\x00\x01\x63ab") // the packet before it was lost
	say(8, "\xe3\x00\x00\x01\xe3\x00\x00\x01\x63abc")
	if got := readText(t.Context(), t, s, "abc"); got != "abc" {
		t.Errorf("read %q", got)
	}
	say(12, "\xe3\x00\x00\x01\xe3\x00\x00\x01\x63xyz") // two are repeated, one is not
	if got := readText(t.Context(), t, s, "\ufffdxyz"); got != "\ufffdxyz" {
		t.Errorf("read %q", got)
	}
	r := s.reader
	r.mu.Lock()
	until, err := r.patience(time.Now().Add(time.Hour), time.Time{})
	r.mu.Unlock()
	if err != nil || until.IsZero() {
		t.Errorf("after an hour: %v %v", until, err)
	}
	s.call.Silence = time.Minute
	r.mu.Lock()
	_, err = r.patience(time.Now().Add(time.Hour), time.Time{})
	r.mu.Unlock()
	if err == nil {
		t.Error("whoever wants to give up after a minute of silence does not")
	}
}

// Whatever comes as text, it is no longer than its packet, and nothing is read beyond that.
func FuzzText(f *testing.F) {
	f.Add([]byte("\xe3\x00\x00\x01\xe3\x00\x00\x01\x63abc"), uint8(99))
	f.Add([]byte("\x63abc"), uint8(99))
	f.Fuzz(func(t *testing.T, b []byte, pt uint8) {
		text, ok := rtp.UnpackText(b, pt&0x7f)
		if len(text) > len(b) || !ok && text != nil {
			t.Errorf("%d bytes of %d", len(text), len(b))
		}
		format, err := rtp.FormatOf(connectors.MustType("text/t140"))
		if err != nil {
			t.Fatal(err)
		}
		buffer := rtp.NewBuffer(format, 0)
		now := time.Unix(0, 0)
		if got := buffer.PutText(rtp.Packet{Position: 2, Payload: b}, pt&0x7f, now); got != ok {
			t.Errorf("read %v, then %v", ok, got)
		}
		buffer.Finish(3, now)
		for total := 0; ; {
			a, v, _ := buffer.Take(now.Add(time.Second))
			if v != rtp.Deliver {
				break
			}
			if total += len(a.Payload); total > len(b)+3*len("\ufffd") {
				t.Fatalf("%d bytes of %d", total, len(b))
			}
		}
	})
}
