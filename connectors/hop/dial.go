package hop

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"ninja/ca"
	"ninja/connectors"
	"ninja/internal/world"
)

// dialTimeout bounds connecting, the handshake and the hello.
const dialTimeout = 10 * time.Second

// DialConfig says which hop to dial as whom.
type DialConfig struct {
	// Identity and World are required.
	Identity *ca.Identity
	World    world.World
	// Scheme is that of the transport and of the address.
	Scheme string
	// Address is what the receiving end's Pending gave.
	Address string
	// Hop names the receiving end in Peer, which is required, and says what flows.
	Hop connectors.Hop
	// Extra are the sender's parameters of the transport; at most 256 bytes.
	Extra string
	// Carrier is this process's trunks, for DialPackets; nil is none.
	Carrier Carrier
}

// Dial connects the sending end of a hop. The caller must Begin the session. A refusal is a *Refused.
func Dial(ctx context.Context, cfg DialConfig) (*Session, error) {
	h := cfg.Hop
	fail := func(err error) (*Session, error) {
		return nil, fmt.Errorf("dial hop %s of path %s at %s: %w", h.Name, h.Path, cfg.Address, err)
	}
	address, err := connectors.ParseAddress(cfg.Scheme, cfg.Address)
	if err != nil {
		return fail(err)
	}
	if h.Stream != (connectors.StreamID{}) && h.Stream != address.Stream {
		return fail(fmt.Errorf("the address is of another stream than %s", h.Stream))
	}
	if h.Peer == "" || len(cfg.Extra) > maxExtra {
		return fail(fmt.Errorf("want the ID of the receiving end, and at most %d bytes of parameters", maxExtra))
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	hi := hello{
		purpose: purposeHop, stream: address.Stream, epoch: h.Epoch, scheme: cfg.Scheme,
		path: clip(h.Path), name: clip(h.Name), typ: h.Type.String(), extra: cfg.Extra,
	}
	s, err := open(ctx, cfg.World, cfg.Identity, address.Host, ca.ID(h.Peer), hi, cfg.Carrier != nil)
	if err != nil {
		return fail(err)
	}
	return s, nil
}

// open opens a session that hello says the purpose of.
func open(ctx context.Context, w world.World, id *ca.Identity, address string, peer ca.ID, h hello, trunks bool) (*Session, error) {
	conn, in, answer, err := dial(ctx, w, id, address, peer, h, trunks)
	if err != nil {
		return nil, err
	}
	p, err := id.PeerOf(conn.ConnectionState())
	if err != nil {
		conn.Close()
		return nil, err
	}
	return newSession(id, conn, in, p, w, h.stream, h.epoch, answer.extra), nil
}

func clip(s string) string { return s[:min(len(s), maxText)] }

// dial opens a session to the peer and says hello; ctx has a deadline. trunks says that this end has them.
func dial(ctx context.Context, w world.World, id *ca.Identity, address string, peer ca.ID, h hello, trunks bool) (*tls.Conn, *bufio.Reader, welcome, error) {
	raw, err := w.Net.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, nil, welcome{}, err
	}
	c := id.ClientTLS(ca.Is(peer))
	c.NextProtos = protocols(trunks)
	c.DynamicRecordSizingDisabled = true
	conn := tls.Client(raw, c)
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	in := newBuffer(conn)
	answer, err := greet(ctx, conn, in, h)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
			err = ctx.Err()
		}
		return nil, nil, welcome{}, err
	}
	return conn, in, answer, nil
}

// greet shakes hands, says hello and reads the answer.
func greet(ctx context.Context, conn *tls.Conn, in *bufio.Reader, h hello) (welcome, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		return welcome{}, err
	}
	if _, err := conn.Write(appendFrame(nil, kindHello, h.append)); err != nil {
		return welcome{}, fmt.Errorf("say hello: %w", err)
	}
	k, body, err := readFrame(in)
	if err != nil {
		return welcome{}, fmt.Errorf("read the answer to the hello: %w", err)
	}
	if k != kindWelcome {
		return welcome{}, fmt.Errorf("read the answer to the hello: %w: kind %d", errFrame, k)
	}
	answer, err := parseWelcome(body)
	if err == nil && answer.status != 0 {
		err = &Refused{Reason: answer.status, Text: answer.text}
	}
	return answer, err
}
