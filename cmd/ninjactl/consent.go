package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"

	"ninja/connectors/rtp/external"
)

// consentCommand runs on the host of a program that is sent media by RTP and cannot answer challenges itself.
type consentCommand struct {
	Listen string   `default:":3478" help:"Where challenges come to: consent=PORT of the proxy's rule."`
	Key    string   `required:"" help:"The key=SECRET of the proxy's rule, or @FILE with it." placeholder:"SECRET"`
	Ports  []uint16 `arg:"" help:"The ports that media may be sent to."`
}

// maxKeyFile bounds the file of a key in bytes.
const maxKeyFile = 4 << 10

// Run answers until it is interrupted. It needs no identity.
func (c *consentCommand) Run(ctx context.Context) error {
	key := c.Key
	if file, ok := strings.CutPrefix(key, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if len(b) > maxKeyFile {
			return fmt.Errorf("%s: larger than %d bytes", file, maxKeyFile)
		}
		key = strings.TrimSpace(string(b))
	}
	if len(key) < 16 {
		return fmt.Errorf("the key wants 16 characters or more, as in the proxy's rule")
	}
	socket, err := net.ListenPacket("udp", c.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "answering at %s for the ports %v of this host; Ctrl-C takes the consent back within 30 s\n", socket.LocalAddr(), c.Ports)
	return external.Answer(ctx, socket, key, c.Ports...)
}
