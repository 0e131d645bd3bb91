package connectors_test

import (
	"strings"
	"testing"

	"ninja/connectors"
	"ninja/connectors/rtp"
	"ninja/connectors/webrtc"
)

// What transports promise to carry they carry, and no sound beyond that.
func TestPromisesAreKept(t *testing.T) {
	carries := map[string]func(connectors.Type) error{"rtp": rtp.Carries, "webrtc": webrtc.Carries}
	of := func(media string) connectors.Type {
		if strings.HasSuffix(media, "/") {
			media += "x"
		}
		if media == "audio/L16" {
			media += ";rate=16000"
		}
		return connectors.MustType(media)
	}
	promised := make(map[[2]string]bool)
	for _, p := range connectors.Promises() {
		promised[[2]string{p.Scheme, p.Media}] = true
		if carry := carries[p.Scheme]; carry != nil {
			if err := carry(of(p.Media)); err != nil {
				t.Errorf("%s promises %s: %v", p.Scheme, p.Media, err)
			}
			if loses := strings.HasPrefix(p.Media, "audio/") || p.Scheme == "rtp"; loses != p.Loses {
				t.Errorf("%s for %s: loses %v", p.Scheme, p.Media, p.Loses)
			}
		}
	}
	for scheme, carry := range carries {
		for _, media := range []string{"audio/L16", "audio/PCMU", "audio/PCMA", "audio/opus", "audio/G722", "audio/L8", "text/t140"} {
			is := promised[[2]string{scheme, media}] || promised[[2]string{scheme, strings.SplitAfter(media, "/")[0]}]
			if does := carry(of(media)) == nil; does != is {
				t.Errorf("%s: %s is promised: %v, carried: %v", scheme, media, is, does)
			}
		}
	}
	if rtp.Carries(connectors.MustType("video/VP8")) == nil {
		t.Error("rtp carries video, which nobody promises")
	}
}
