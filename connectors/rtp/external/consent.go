package external

import (
	"crypto/subtle"
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/pion/rtcp"
)

// Consent is asked for as RFC 7675 does: it holds for 30 s from an answer and is asked for about every 5 s. Before the
// first answer it is asked for ever more slowly, and given up after a minute.
const (
	consentLife  = 30 * time.Second
	consentEvery = 5 * time.Second
	consentFirst = time.Second
	giveUp       = time.Minute
	// openChallenges is how many challenges may still be answered.
	openChallenges = 8
)

// consent decides whether an address has consented. It is pure: time and randomness are handed in.
//
// An answer counts when it could only be given by whoever received the challenge, and comes from where it was sent to:
//
//   - STUN at the address: a success response with the transaction id (96 random bits);
//   - STUN at the rule's consent port: the same, with the rule's key over the address and the id;
//   - RTCP from the address: a receiver report on our SSRC with the LSR of our sender report (48 random bits, the rest is
//     the time);
//   - RTCP from the address whose CNAME is the token.
//
// RTCP is taken from the address's port and from the next one (RFC 3550, 11).
type consent struct {
	rule   Rule
	remote netip.AddrPort
	ssrc   uint32 // ours, random
	token  string // "" where the rule has no CNAME

	asked [openChallenges]challenge
	n     int
	begun time.Time
	next  time.Time
	until time.Time // consent holds until then; zero before the first
}

// challenge is what an answer must give back.
type challenge struct {
	id  txid
	lsr uint32 // middle 32 bits of the sender report's NTP time
}

func newConsent(rule Rule, remote netip.AddrPort, ssrc uint32, random []byte) consent {
	c := consent{rule: rule, remote: remote, ssrc: ssrc, token: rule.CNAME}
	if rule.CNAME == "*" {
		c.token = hex.EncodeToString(random)
	}
	return c
}

// given reports whether media may be sent now.
func (c *consent) given(now time.Time) bool { return now.Before(c.until) }

// over reports whether nobody will answer any more, and since when to say so.
func (c *consent) over(now time.Time) bool {
	if c.until.IsZero() {
		return !c.begun.IsZero() && now.Sub(c.begun) > giveUp
	}
	return now.Sub(c.until) > giveUp-consentLife
}

// due says when the next challenge is to be sent.
func (c *consent) due() time.Time { return c.next }

// ask makes the next challenge of 16 random bytes and plans the one after it.
func (c *consent) ask(now time.Time, random [16]byte) challenge {
	if c.begun.IsZero() {
		c.begun = now
	}
	ch := challenge{id: txid(random[:12]), lsr: uint32(ntpSeconds(now))<<16 | uint32(random[12])<<8 | uint32(random[13])}
	c.asked[c.n%openChallenges] = ch
	c.n++
	wait := consentEvery
	if !c.given(now) {
		wait = min(consentFirst<<min(c.n/4, 3), consentEvery)
	}
	c.next = now.Add(wait*4/5 + wait*2/5*time.Duration(random[0])/256) // 0.8 to 1.2 of it
	return ch
}

// ntpSeconds is the whole seconds of a time as NTP counts them (RFC 3550, 4).
func ntpSeconds(t time.Time) uint64 { return uint64(t.Unix() + 2_208_988_800) }

// ntp is the NTP time whose middle the challenge is.
func (ch challenge) ntp(now time.Time) uint64 { return ntpSeconds(now)<<32 | uint64(ch.lsr&0xffff)<<16 }

// open reports whether a challenge may still be answered, and closes it.
func (c *consent) open(is func(challenge) bool) bool {
	for i, ch := range c.asked[:min(c.n, openChallenges)] {
		if ch != (challenge{}) && is(ch) {
			c.asked[i] = challenge{}
			return true
		}
	}
	return false
}

// stun takes a STUN message from an address; it reports whether it gives consent.
func (c *consent) stun(m stunMessage, from netip.AddrPort, now time.Time) bool {
	if m.kind != stunSuccess {
		return false
	}
	place := c.remote
	if c.rule.Port != 0 {
		place = netip.AddrPortFrom(c.remote.Addr(), c.rule.Port)
	}
	if from != place || c.rule.Port != 0 && (m.username != c.remote.String() || !m.keyed(c.rule.Key)) {
		return false
	}
	if !c.open(func(ch challenge) bool { return ch.id == m.id }) {
		return false
	}
	c.until = now.Add(consentLife)
	return true
}

// rtcp takes RTCP packets from an address; it reports whether they give consent.
func (c *consent) rtcp(packets []rtcp.Packet, from netip.AddrPort, now time.Time) bool {
	if from.Addr() != c.remote.Addr() || from.Port() != c.remote.Port() && from.Port() != c.remote.Port()+1 {
		return false
	}
	for _, p := range packets {
		var reports []rtcp.ReceptionReport
		switch p := p.(type) {
		case *rtcp.ReceiverReport:
			reports = p.Reports
		case *rtcp.SenderReport:
			reports = p.Reports
		case *rtcp.SourceDescription:
			if c.named(p) {
				c.until = now.Add(consentLife)
				return true
			}
		}
		for _, r := range reports {
			if c.rule.RTCP && r.SSRC == c.ssrc && r.LastSenderReport != 0 &&
				c.open(func(ch challenge) bool { return ch.lsr == r.LastSenderReport }) {
				c.until = now.Add(consentLife)
				return true
			}
		}
	}
	return false
}

func (c *consent) named(p *rtcp.SourceDescription) bool {
	if c.token == "" {
		return false
	}
	for _, chunk := range p.Chunks {
		for _, item := range chunk.Items {
			if item.Type == rtcp.SDESCNAME && subtle.ConstantTimeCompare([]byte(item.Text), []byte(c.token)) == 1 {
				return true
			}
		}
	}
	return false
}
