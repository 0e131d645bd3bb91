package external

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/pion/rtcp"
	pionrtp "github.com/pion/rtp"

	"ninja/connectors"
	"ninja/connectors/rtp"
	"ninja/internal/world"
)

// maxDatagram is the longest datagram that is taken in bytes.
const maxDatagram = 1500

// Session is a socket pair towards one program. Three goroutines serve it: one for each socket, and one that asks for
// consent. What they share stands behind one lock.
type Session struct {
	edge    *Edge
	call    Call
	format  rtp.Format
	pt      uint8
	remote  netip.AddrPort // not valid for a session that only receives
	key     netip.AddrPort
	media   net.PacketConn
	control net.PacketConn
	ctx     context.Context
	stop    context.CancelFunc
	work    sync.WaitGroup
	once    sync.Once
	writer  *writer
	reader  *reader

	mu      sync.Mutex
	keys    keys
	consent consent
	changed chan struct{} // closed and renewed when consent comes or goes
	knocks  uint16        // RTP packets without payload that were sent
	ssrc    uint32
	first   uint16 // sequence number of the first packet
	base    uint32 // timestamp of sample 0
}

func newSession(e *Edge, c Call, p plan, k keys, media, control net.PacketConn) *Session {
	s := &Session{
		edge: e, call: c, format: p.format, pt: c.payloadType(p.format), remote: p.remote, media: media, control: control, keys: k,
		changed: make(chan struct{}),
	}
	var random [26]byte
	e.cfg.World.Fill(random[:])
	s.ssrc = uint32(random[0])<<24 | uint32(random[1])<<16 | uint32(random[2])<<8 | uint32(random[3]) | 1
	s.first, s.base = (uint16(random[4])<<8|uint16(random[5]))&0x7fff, uint32(random[6])<<24|uint32(random[7])<<16
	s.consent = newConsent(p.rule, p.remote, s.ssrc, random[10:])
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.writer, s.reader = newWriter(s), newReader(s)
	return s
}

func (s *Session) start() {
	s.work.Go(func() { s.receive(s.media, s.takeMedia) })
	s.work.Go(func() { s.receive(s.control, s.takeControl) })
	if s.remote.IsValid() {
		s.work.Go(s.askForConsent)
	}
}

// Addr is where the session receives RTP; RTCP at the next port, or here too (RFC 5761).
func (s *Session) Addr() netip.AddrPort { return addrOf(s.media.LocalAddr()) }

// Token is the CNAME by which the program can answer; "" where the rule has none.
func (s *Session) Token() string { return s.consent.token }

// Writer sends to the remote address. There is one.
func (s *Session) Writer() connectors.Writer { return s.writer }

// Reader receives. There is one.
func (s *Session) Reader() connectors.Reader { return s.reader }

// SDP is a session description for a program (RFC 8866): for one that sends to this session (at is Addr), or one that
// receives from it (at is the remote address).
func (s *Session) SDP(at netip.AddrPort) string {
	family := "IP4"
	if at.Addr().Is6() {
		family = "IP6"
	}
	profile, crypto := "RTP/AVP", ""
	if s.call.Out != "" {
		profile, crypto = "RTP/SAVP", "a=crypto:1 "+s.call.Out+"\r\n"
		if at == s.Addr() {
			crypto = "a=crypto:1 " + s.call.In + "\r\n"
		}
	}
	kind, formats, maps := "audio", strconv.Itoa(int(s.pt)), fmt.Sprintf("a=rtpmap:%d %s\r\n", s.pt, s.encoding())
	if s.format.Text() {
		kind, formats, maps = "text", fmt.Sprintf("%d %d", s.pt, s.call.textType()), textMaps(s.pt, s.call.textType())
	}
	return fmt.Sprintf("v=0\r\no=- 0 0 IN %[1]s %[2]s\r\ns=Ninja\r\nc=IN %[1]s %[2]s\r\nt=0 0\r\nm=%[3]s %[4]d %[5]s %[6]s\r\n%[7]s%[8]s",
		family, at.Addr(), kind, at.Port(), profile, formats, maps, crypto)
}

// encoding is the type as an rtpmap line has it.
func (s *Session) encoding() string {
	name := s.call.Type.Media()[len("audio/"):]
	switch {
	case s.format.Whole():
		return fmt.Sprintf("opus/%d/2", s.format.ClockRate()) // RFC 7587, 7
	case s.call.Type.Get("channels") != "" && s.call.Type.Get("channels") != "1":
		return fmt.Sprintf("%s/%d/%s", name, s.format.ClockRate(), s.call.Type.Get("channels"))
	}
	return fmt.Sprintf("%s/%d", name, s.format.ClockRate())
}

// Close ends the session and waits for its goroutines. It may be called again.
func (s *Session) Close() error {
	s.once.Do(func() {
		s.stop()
		s.media.Close()
		s.control.Close()
		s.work.Wait()
		s.edge.leave(s)
		s.writer.end()
	})
	return nil
}

// receive takes datagrams from a socket until the session ends.
func (s *Session) receive(c net.PacketConn, take func(b []byte, from netip.AddrPort)) {
	buffer := make([]byte, maxDatagram+1)
	for {
		n, from, err := c.ReadFrom(buffer)
		switch {
		case s.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case err != nil: // an ICMP answer to a challenge, say
			if world.Sleep(s.ctx, s.edge.cfg.World.Jitter(10*time.Millisecond)) != nil {
				return
			}
		case n <= maxDatagram:
			take(buffer[:n], addrOf(from))
		}
	}
}

// takeMedia takes what comes to the RTP port: RTP, RTCP (RFC 5761) or STUN.
func (s *Session) takeMedia(b []byte, from netip.AddrPort) {
	if isSTUN(b) || len(b) > 1 && b[1] >= 192 && b[1] <= 223 {
		s.takeControl(b, from)
		return
	}
	if !s.mayHear(from) {
		return
	}
	s.reader.take(b, from)
}

// openRTP authenticates and decrypts a packet where there are keys.
func (s *Session) openRTP(b []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys.in == nil {
		return b, nil
	}
	return s.keys.in.DecryptRTP(nil, b, nil)
}

// mayHear reports whether packets of the address are taken.
func (s *Session) mayHear(from netip.AddrPort) bool {
	if s.remote.IsValid() {
		return from.Addr() == s.remote.Addr() // programs may send from another port than they receive at
	}
	for _, r := range s.edge.cfg.Allow {
		if r.Network.Contains(from.Addr()) {
			return true
		}
	}
	return false
}

// takeControl takes RTCP or STUN.
func (s *Session) takeControl(b []byte, from netip.AddrPort) {
	if !s.mayHear(from) {
		return
	}
	now := time.Now()
	if isSTUN(b) {
		if m, err := parseSTUN(b); err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.consent.stun(m, from, now) {
				s.tell()
			}
		}
		return
	}
	s.mu.Lock()
	if s.keys.in != nil {
		plain, err := s.keys.in.DecryptRTCP(nil, b, nil)
		if err != nil {
			s.mu.Unlock()
			return
		}
		b = plain
	}
	s.mu.Unlock()
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	s.mu.Lock()
	if s.remote.IsValid() && s.consent.rtcp(packets, from, now) {
		s.tell()
	}
	s.mu.Unlock()
	for _, p := range packets {
		if bye, ok := p.(*rtcp.Goodbye); ok {
			s.reader.bye(bye.Sources, from)
		}
	}
}

// tell wakes who waits for consent. The caller holds the lock.
func (s *Session) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// askForConsent sends challenges until the session ends or nobody answers.
func (s *Session) askForConsent() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
		now := time.Now()
		if !s.edge.mayAsk(s.remote.Addr(), now) {
			timer.Reset(s.edge.cfg.World.Jitter(consentFirst))
			continue
		}
		var random [16]byte
		s.edge.cfg.World.Fill(random[:])
		s.mu.Lock()
		if s.consent.over(now) {
			s.tell()
			s.mu.Unlock()
			return
		}
		ch := s.consent.ask(now, random)
		timer.Reset(time.Until(s.consent.due()))
		s.challenge(ch, now)
		s.mu.Unlock()
	}
}

// challenge sends a challenge. The caller holds the lock.
func (s *Session) challenge(ch challenge, now time.Time) {
	rule := s.consent.rule
	if rule.Port != 0 {
		helper := netip.AddrPortFrom(s.remote.Addr(), rule.Port)
		s.send(s.media, appendSTUN(nil, stunRequest, ch.id, s.remote.String(), rule.Key), helper)
		return
	}
	s.send(s.media, appendSTUN(nil, stunRequest, ch.id, "", ""), s.remote)
	if !rule.RTCP {
		return
	}
	if !s.consent.given(now) {
		// A source counts as one from its second packet in sequence on (RFC 3550, A.1).
		pt := s.pt
		if s.format.Text() {
			pt = s.call.textType() // with redundancy a packet without payload would be malformed
		}
		for range 2 {
			s.sendRTP(&pionrtp.Header{Version: 2, PayloadType: pt, SequenceNumber: s.first + s.knocks, Timestamp: s.base, SSRC: s.ssrc}, nil)
			s.knocks++
		}
	}
	s.sendRTCP(
		&rtcp.SenderReport{SSRC: s.ssrc, NTPTime: ch.ntp(now), RTPTime: s.base},
		rtcp.NewCNAMESourceDescription(s.ssrc, "ninja"),
	)
}

// sendRTP sends a packet. The caller holds the lock. What the network refuses is lost.
func (s *Session) sendRTP(h *pionrtp.Header, payload []byte) {
	b, err := (&pionrtp.Packet{Header: *h, Payload: payload}).Marshal()
	if err == nil && s.keys.out != nil {
		b, err = s.keys.out.EncryptRTP(nil, b, nil)
	}
	if err == nil {
		s.send(s.media, b, s.remote)
	}
}

func (s *Session) sendRTCP(packets ...rtcp.Packet) {
	b, err := rtcp.Marshal(packets)
	if err == nil && s.keys.out != nil {
		b, err = s.keys.out.EncryptRTCP(nil, b, nil)
	}
	if err == nil {
		s.send(s.control, b, netip.AddrPortFrom(s.remote.Addr(), s.remote.Port()+1))
	}
}

func (s *Session) send(c net.PacketConn, b []byte, to netip.AddrPort) {
	_, _ = c.WriteTo(b, net.UDPAddrFromAddrPort(to))
}
