package mem

import (
	"encoding/binary"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ninja/connectors"
	"ninja/connectors/connectorstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	connectorstest.Run(t, func(*testing.T) connectorstest.Ends {
		transport := New()
		return connectorstest.Ends{
			Listen: transport, Dial: transport,
			Type: connectors.MustType("application/octet-stream"), Stamped: true,
			ADU: func(n int) connectors.ADU {
				return connectors.ADU{
					Payload: binary.BigEndian.AppendUint32(nil, uint32(n)), MediaTime: time.Duration(n) * time.Millisecond,
					Mark: connectors.Mark(n % 3),
				}
			},
		}
	})
}
