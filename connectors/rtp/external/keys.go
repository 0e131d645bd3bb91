package external

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/pion/srtp/v3"
)

// keys are the contexts of SRTP, nil where RTP is plain.
type keys struct{ out, in *srtp.Context }

var errCrypto = errors.New("want SUITE inline:KEY as in an a=crypto line of SDP (RFC 4568), with one of the suites " +
	"AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32, AEAD_AES_128_GCM, AEAD_AES_256_GCM and no parameters")

// parseKeys reads the keys of both directions; they must differ, or the two senders would share a key stream.
func parseKeys(out, in string) (keys, error) {
	if out == "" && in == "" {
		return keys{}, nil
	}
	if out == in {
		return keys{}, errors.New("SRTP wants a key of its own for each direction")
	}
	var k keys
	var err error
	if k.out, err = parseCrypto(out); err == nil {
		k.in, err = parseCrypto(in, srtp.SRTPReplayProtection(1024), srtp.SRTCPReplayProtection(64))
	}
	return k, err
}

// parseCrypto reads SUITE inline:KEY. What it refuses it does not repeat: it may hold a key.
func parseCrypto(s string, options ...srtp.ContextOption) (*srtp.Context, error) {
	suite, key, ok := strings.Cut(strings.TrimSpace(s), " ")
	key, inline := strings.CutPrefix(key, "inline:")
	if !ok || !inline || len(s) > 256 {
		return nil, errCrypto
	}
	var profile srtp.ProtectionProfile
	switch suite {
	case "AES_CM_128_HMAC_SHA1_80":
		profile = srtp.ProtectionProfileAes128CmHmacSha1_80
	case "AES_CM_128_HMAC_SHA1_32":
		profile = srtp.ProtectionProfileAes128CmHmacSha1_32
	case "AEAD_AES_128_GCM":
		profile = srtp.ProtectionProfileAeadAes128Gcm
	case "AEAD_AES_256_GCM":
		profile = srtp.ProtectionProfileAeadAes256Gcm
	default:
		return nil, errCrypto
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return nil, errCrypto
	}
	n, err1 := profile.KeyLen()
	m, err2 := profile.SaltLen()
	if err1 != nil || err2 != nil || len(raw) != n+m {
		return nil, errCrypto
	}
	c, err := srtp.CreateContext(raw[:n], raw[n:], profile, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCrypto, err)
	}
	return c, nil
}
