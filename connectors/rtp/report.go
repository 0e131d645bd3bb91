package rtp

import (
	"time"

	"github.com/pion/rtcp"
)

// Reception is reported as RTCP (RFC 3550, 6.4.2) on the hop's session, which authenticates it and does not lose it. A
// sending end asks for reports in its hello.
const (
	wantsReports = "rtcp"
	// reportEvery is how often; the bandwidth rule of RFC 3550, 6.2, is for multicast and would allow more.
	reportEvery = time.Second
)

// reporter makes the receiving end's reports. It is pure: the time is handed in.
type reporter struct {
	ssrc     uint32
	sequence uint16 // of position 0
	wanted   bool

	last                     time.Time
	expectedBefore, lostThen uint64
}

// due returns a report when it is time for one: position is the highest that has come, lost how many packets are, jitter
// in samples.
func (r *reporter) due(now time.Time, position, lost uint64, jitter int64) []byte {
	if !r.wanted || now.Sub(r.last) < reportEvery {
		return nil
	}
	first := r.last.IsZero()
	r.last = now
	if first {
		return nil // nothing is known yet
	}
	expected := position + 1
	b, err := (&rtcp.ReceiverReport{SSRC: r.ssrc ^ 1, Reports: []rtcp.ReceptionReport{{
		SSRC:               r.ssrc,
		FractionLost:       fraction(lost-r.lostThen, expected-r.expectedBefore),
		TotalLost:          uint32(min(lost, 1<<23-1)), // it is signed in the packet
		LastSequenceNumber: uint32(uint64(r.sequence) + position),
		Jitter:             uint32(max(jitter, 0)),
	}}}).Marshal()
	r.lostThen, r.expectedBefore = lost, expected
	if err != nil {
		return nil
	}
	return b
}

// fraction is lost of expected in 256ths.
func fraction(lost, expected uint64) uint8 {
	if expected == 0 {
		return 0
	}
	return uint8(min(256*lost/expected, 255))
}

// parseReport reads what a report says of the stream.
func parseReport(b []byte, ssrc uint32) (lost, jitter uint32, ok bool) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		return 0, 0, false
	}
	for _, p := range packets {
		report, is := p.(*rtcp.ReceiverReport)
		if !is {
			continue
		}
		for _, r := range report.Reports {
			if r.SSRC == ssrc {
				return r.TotalLost, r.Jitter, true
			}
		}
	}
	return 0, 0, false
}
