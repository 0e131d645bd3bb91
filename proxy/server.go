package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"ninja/ca"
	"ninja/operators"
	"ninja/proxy/proxypb"
	"ninja/sds/check"
)

// wireVersion is the version of every message.
const wireVersion = 1

// MaxOperator bounds the description of an operator in bytes.
const MaxOperator = 64 << 10

// guestServer is the proxy's gRPC face for authors.
type guestServer struct {
	proxypb.UnimplementedGuestsServer
	guests *Guests
	may    func(ca.ID) bool
}

// Register adds the guests to a gRPC server made with ca.ServerCredentials; may says who may offer operators.
func (g *Guests) Register(s *grpc.Server, may func(author ca.ID) bool) {
	proxypb.RegisterGuestsServer(s, &guestServer{guests: g, may: may})
}

// Offer keeps a guest for as long as its author holds the stream, and no longer than the certificate that opened it.
func (s *guestServer) Offer(r *proxypb.OfferRequest, stream grpc.ServerStreamingServer[proxypb.OfferEvent]) error {
	peer, err := ca.PeerFromContext(stream.Context())
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if !s.may(peer.ID) {
		return status.Errorf(codes.PermissionDenied, "%s may not offer operators to %s: whoever runs it can name them under roles.proxy.publishers",
			peer.ID, s.guests.cfg.Owner)
	}
	spec, err := ReadOperator(r.GetOperator())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	as, gone, leave, err := s.guests.Offer(stream.Context(), peer.ID, *spec)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if err := stream.Send(&proxypb.OfferEvent{Version: wireVersion, Guest: as.message()}); err != nil {
		leave()
		return err
	}
	select {
	case <-stream.Context().Done():
		leave()
		return stream.Context().Err()
	case <-gone:
		// It stays in the list, so that its author and the node's operator can see why.
		why := "it is withdrawn"
		for _, x := range s.guests.List() {
			if x.Name == as.Name && x.State != "published" {
				why = x.Text
			}
		}
		return status.Errorf(codes.Aborted, "%s is withdrawn: %s", as.Service, why)
	}
}

// ReadOperator reads the description of an operator, strictly.
func ReadOperator(b []byte) (*operators.Spec, error) {
	if len(b) > MaxOperator {
		return nil, fmt.Errorf("a description of %d bytes: at most %d are allowed", len(b), MaxOperator)
	}
	if _, err := check.Parse(b); err != nil {
		return nil, err
	}
	return operators.ParseSpec(b)
}

// List tells what there is. Who runs what is not for everybody: those who may not offer learn that alone.
func (s *guestServer) List(ctx context.Context, _ *proxypb.ListRequest) (*proxypb.ListReply, error) {
	peer, err := ca.PeerFromContext(ctx)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	if !s.may(peer.ID) {
		return &proxypb.ListReply{}, nil
	}
	reply := &proxypb.ListReply{Welcome: true}
	if s.guests.cfg.Keys != nil {
		reply.Keys = s.guests.cfg.Keys()
	}
	for _, x := range s.guests.List() {
		reply.Guests = append(reply.Guests, x.message())
	}
	return reply, nil
}

func (x Guest) message() *proxypb.Guest {
	return &proxypb.Guest{Name: x.Name, Service: x.Service, Author: string(x.Author), State: x.State, Text: x.Text,
		Examinations: uint32(x.Examinations), Quality: x.Cost.Quality, LatencyNs: int64(x.Cost.Latency), Cpu: x.Cost.CPU, Memory: x.Cost.Memory}
}

func guestOf(m *proxypb.Guest) Guest {
	return Guest{Name: m.GetName(), Service: m.GetService(), Author: ca.ID(m.GetAuthor()), State: m.GetState(), Text: m.GetText(),
		Examinations: int(m.GetExaminations()), Cost: operators.Cost{Quality: m.GetQuality(), Latency: operators.Latency(m.GetLatencyNs()),
			CPU: m.GetCpu(), Memory: m.GetMemory()}}
}

// Client offers operators to a proxy.
type Client struct {
	conn *grpc.ClientConn
	rpc  proxypb.GuestsClient
}

// NewClient prepares a client of the proxy at a control address; it connects at the first call.
func NewClient(id *ca.Identity, address string) (*Client, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(ca.ClientCredentials(id, ca.KindIs(ca.KindProxy))))
	if err != nil {
		return nil, fmt.Errorf("proxy at %s: %w", address, err)
	}
	return &Client{conn: conn, rpc: proxypb.NewGuestsClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// offerTime bounds an examination at registration, as its author waits for it.
const offerTime = 3 * time.Minute

// Offer has an operator published for as long as ctx lasts. published is called once it is; Offer returns when ctx has
// ended (nil), or with what ended it before.
func (c *Client) Offer(ctx context.Context, operator []byte, published func(Guest)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(offerTime, cancel)
	defer late.Stop()
	stream, err := c.rpc.Offer(ctx, &proxypb.OfferRequest{Version: wireVersion, Operator: operator})
	if err != nil {
		return readable(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return readable(err)
	}
	if !late.Stop() {
		return fmt.Errorf("the proxy has not examined the operator within %v", offerTime)
	}
	published(guestOf(first.GetGuest()))
	_, err = stream.Recv()
	if ctx.Err() != nil {
		return nil
	}
	return readable(err)
}

// Hall is what a proxy has for authors.
type Hall struct {
	// Welcome says whether the asker may offer operators.
	Welcome bool
	// Keys are the programs that descriptions may name, Guests the operators that are there.
	Keys   []string
	Guests []Guest
}

// List asks what there is.
func (c *Client) List(ctx context.Context) (Hall, error) {
	reply, err := c.rpc.List(ctx, &proxypb.ListRequest{Version: wireVersion})
	if err != nil {
		return Hall{}, readable(err)
	}
	h := Hall{Welcome: reply.GetWelcome(), Keys: reply.GetKeys()}
	for _, m := range reply.GetGuests() {
		h.Guests = append(h.Guests, guestOf(m))
	}
	return h, nil
}

// ErrLost is wrapped by the error of a connection that broke, or ended because a certificate did: to call again may help.
var ErrLost = errors.New("the connection to the proxy ended")

// readable strips gRPC's words from what the proxy wrote for a person.
func readable(err error) error {
	s, ok := status.FromError(err)
	switch {
	case !ok || err == nil:
		return err
	case s.Code() == codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrLost, s.Message())
	}
	return errors.New(s.Message())
}
