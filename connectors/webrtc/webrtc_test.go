package webrtc

import (
	"encoding/binary"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
	"ninja/internal/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pcmu = "audio/PCMU;channels=1;rate=8000"

func TestConformanceSound(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		return ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()), Config{Reorder: 500 * time.Millisecond}, pcmu)
	})
}

func TestConformanceData(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		return ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()), Config{}, "text/plain;lang=en")
	})
}

// ends joins process 1 to process 0; process 2 is the stranger.
func ends(p []connectorstest.Process, cfg Config, typ string) connectorstest.Ends {
	transport := func(p connectorstest.Process) connectors.Transport {
		cfg.Hops, cfg.Identity, cfg.World = p.Hops, p.Identity, p.World
		return New(cfg)
	}
	return connectorstest.Ends{
		Listen: transport(p[0]), Dial: transport(p[1]), Stranger: transport(p[2]),
		Receiver: string(p[0].Identity.ID()), Sender: string(p[1].Identity.ID()),
		Type: connectors.MustType(typ), Media: typ == pcmu, Stamped: true, Abreast: 8, Other: connectors.MustType("audio/opus;channels=1;rate=48000"),
		ADU: func(n int) connectors.ADU { // 2 ms each
			b := make([]byte, 16)
			binary.BigEndian.PutUint32(b, uint32(n))
			return connectors.ADU{Payload: b, MediaTime: time.Duration(n) * 2 * time.Millisecond, Mark: connectors.Mark(n % 3)}
		},
	}
}
