package webrtc

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	pion "github.com/pion/webrtc/v4"
)

// What one end says to the other is one line in the hello or in its answer, at most 256 bytes:
//
//	1 UFRAG PASSWORD FINGERPRINT SSRC SEQUENCE TIMESTAMP ADDRESS:PORT...
//
// UFRAG and PASSWORD are those of ICE (RFC 8445, 5.3), FINGERPRINT is the SHA-256 of the DTLS certificate in unpadded
// base64url (RFC 8122), then in hexadecimal the SSRC, the first sequence number and the first timestamp of what the end
// sends (zeros from an end that sends no sound), then its host candidates.
const (
	paramsVersion = "1"
	maxParams     = 256
	// maxCandidates is how many addresses of an end are tried.
	maxCandidates = 6
	fixedParams   = 7
)

var errParams = errors.New("the other end's WebRTC parameters cannot be read")

// params is what an end says of itself.
type params struct {
	ufrag, password string
	fingerprint     [32]byte
	ssrc            uint32
	sequence        uint16
	timestamp       uint32
	candidates      []netip.AddrPort
}

// String is the line; candidates that would make it too long are left out.
func (p params) String() string {
	s := fmt.Sprintf("%s %s %s %s %x %x %x", paramsVersion, p.ufrag, p.password,
		base64.RawURLEncoding.EncodeToString(p.fingerprint[:]), p.ssrc, p.sequence, p.timestamp)
	for i, c := range p.candidates {
		if text := " " + c.String(); i < maxCandidates && len(s)+len(text) <= maxParams {
			s += text
		}
	}
	return s
}

// parseParams reads the line.
func parseParams(s string) (params, error) {
	fields := strings.Split(s, " ")
	if len(s) > maxParams || len(fields) <= fixedParams || len(fields) > fixedParams+maxCandidates || fields[0] != paramsVersion {
		return params{}, errParams
	}
	p := params{ufrag: fields[1], password: fields[2]}
	print, err := base64.RawURLEncoding.Strict().DecodeString(fields[3])
	if err != nil || len(print) != len(p.fingerprint) || !iceChars(p.ufrag, 4) || !iceChars(p.password, 22) {
		return params{}, errParams
	}
	copy(p.fingerprint[:], print)
	var numbers [3]uint64
	for i, bits := range []int{32, 16, 32} {
		if numbers[i], err = strconv.ParseUint(fields[4+i], 16, bits); err != nil {
			return params{}, errParams
		}
	}
	p.ssrc, p.sequence, p.timestamp = uint32(numbers[0]), uint16(numbers[1]), uint32(numbers[2])
	for _, f := range fields[fixedParams:] {
		a, err := netip.ParseAddrPort(f)
		if err != nil || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().IsMulticast() || a.Addr().IsUnspecified() {
			return params{}, errParams
		}
		p.candidates = append(p.candidates, a)
	}
	return p, nil
}

// iceChars reports whether s has at least so many characters, all of them ICE's (RFC 8445, 5.3).
func iceChars(s string, least int) bool {
	return len(s) >= least && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '+' && r != '/'
	})
}

// ice, dtls and remoteCandidates are the parameters as pion has them.
func (p params) ice() pion.ICEParameters {
	return pion.ICEParameters{UsernameFragment: p.ufrag, Password: p.password}
}

func (p params) dtls(role pion.DTLSRole) pion.DTLSParameters {
	pairs := make([]string, len(p.fingerprint))
	for i, b := range p.fingerprint {
		pairs[i] = hex.EncodeToString([]byte{b})
	}
	return pion.DTLSParameters{Role: role, Fingerprints: []pion.DTLSFingerprint{{Algorithm: "sha-256", Value: strings.Join(pairs, ":")}}}
}

func (p params) remoteCandidates() []pion.ICECandidate {
	var all []pion.ICECandidate
	for i, c := range p.candidates {
		all = append(all, pion.ICECandidate{
			Foundation: strconv.Itoa(i), Priority: uint32(2130706431 - i), Address: c.Addr().String(), Port: c.Port(),
			Protocol: pion.ICEProtocolUDP, Component: 1, Typ: pion.ICECandidateTypeHost,
		})
	}
	return all
}

// localParams is what an end says of itself, from what pion made.
func localParams(g *pion.ICEGatherer, d *pion.DTLSTransport) (params, error) {
	ice, err := g.GetLocalParameters()
	if err != nil {
		return params{}, err
	}
	dtls, err := d.GetLocalParameters()
	if err != nil {
		return params{}, err
	}
	p := params{ufrag: ice.UsernameFragment, password: ice.Password}
	if len(dtls.Fingerprints) == 0 {
		return p, errors.New("no certificate for DTLS")
	}
	print, err := hex.DecodeString(strings.ReplaceAll(dtls.Fingerprints[0].Value, ":", ""))
	if err != nil || len(print) != len(p.fingerprint) {
		return p, fmt.Errorf("the certificate's fingerprint is of %s", dtls.Fingerprints[0].Algorithm)
	}
	copy(p.fingerprint[:], print)
	found, err := g.GetLocalCandidates()
	if err != nil {
		return p, err
	}
	for _, c := range found {
		if a, err := netip.ParseAddr(c.Address); err == nil && c.Protocol == pion.ICEProtocolUDP {
			p.candidates = append(p.candidates, netip.AddrPortFrom(a.WithZone(""), c.Port))
		}
	}
	if len(p.candidates) == 0 {
		return p, errors.New("no address of this machine can be offered")
	}
	return p, nil
}
