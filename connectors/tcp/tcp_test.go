package tcp

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

func TestConformance(t *testing.T) {
	connectorstest.Run(t, func(t *testing.T) connectorstest.Ends {
		return ends(connectorstest.Processes(t, "127.0.0.1:0", world.Real(), world.Real(), world.Real()))
	})
}

// ends joins process 1 to process 0; process 2 is the stranger.
func ends(p []connectorstest.Process) connectorstest.Ends {
	transport := func(p connectorstest.Process) connectors.Transport {
		return New(Config{Hops: p.Hops, Identity: p.Identity, World: p.World})
	}
	return connectorstest.Ends{
		Listen: transport(p[0]), Dial: transport(p[1]), Stranger: transport(p[2]),
		Receiver: string(p[0].Identity.ID()), Sender: string(p[1].Identity.ID()),
		Type: connectors.MustType("application/octet-stream"),
		ADU: func(n int) connectors.ADU {
			return connectors.ADU{
				Payload: binary.BigEndian.AppendUint32(nil, uint32(n)), MediaTime: time.Duration(n) * time.Millisecond,
				Mark: connectors.Mark(n % 3),
			}
		},
	}
}
