package apc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"ninja/apc/apcpb"
	"ninja/ca"
	"ninja/capability"
)

// Client asks a creator for paths on behalf of a user.
type Client struct {
	id         *ca.Identity
	capability func(ctx context.Context) ([]byte, error)
	conn       *grpc.ClientConn
	rpc        apcpb.CreatorClient
}

// NewClient prepares a client of the creator at address; it connects at the first call. Capability gives the user's
// capability, as capability.Client does.
func NewClient(id *ca.Identity, address string, capability func(ctx context.Context) ([]byte, error)) (*Client, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(ca.ClientCredentials(id, ca.KindIs(ca.KindAPC))))
	if err != nil {
		return nil, fmt.Errorf("creator at %s: %w", address, err)
	}
	return &Client{id: id, capability: capability, conn: conn, rpc: apcpb.NewCreatorClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Plan says what Create would make.
func (c *Client) Plan(ctx context.Context, r Request) (Info, error) {
	return c.ask(ctx, r, c.rpc.Plan)
}

// Create makes a path; it answers when data flows.
func (c *Client) Create(ctx context.Context, r Request) (Info, error) {
	return c.ask(ctx, r, c.rpc.Create)
}

// Explain says why a request gets the plan that it gets, or none.
func (c *Client) Explain(ctx context.Context, r Request) (Explanation, error) {
	var err error
	if r.Capability, err = c.narrowed(ctx, r.Path); err != nil {
		return Explanation{}, err
	}
	w, err := c.rpc.Explain(ctx, requestToWire(r))
	if err != nil {
		return Explanation{}, readable(err)
	}
	return explanationFromWire(w), nil
}

// Catalogue fetches all that the user's paths may be made of.
func (c *Client) Catalogue(ctx context.Context) (*Catalogue, error) {
	token, err := c.narrowed(ctx, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Catalogue(ctx, &apcpb.CatalogueRequest{Version: wireVersion, Capability: token})
	if err != nil {
		return nil, readable(err)
	}
	var b bytes.Buffer
	for {
		p, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return ReadCatalogue(&b)
		case err != nil:
			return nil, readable(err)
		case b.Len()+len(p.GetJson()) > MaxCatalogue:
			return nil, fmt.Errorf("the creator's catalogue has more than %d bytes", MaxCatalogue)
		}
		b.Write(p.GetJson())
	}
}

type call func(context.Context, *apcpb.PathRequest, ...grpc.CallOption) (*apcpb.PathInfo, error)

func (c *Client) ask(ctx context.Context, r Request, do call) (Info, error) {
	var err error
	if r.Capability, err = c.narrowed(ctx, r.Path); err != nil {
		return Info{}, err
	}
	return infoOf(do(ctx, requestToWire(r)))
}

// narrowed is the user's capability narrowed to the creator and, where it has a name, to the path.
func (c *Client) narrowed(ctx context.Context, path string) ([]byte, error) {
	token, err := c.capability(ctx)
	if err != nil {
		return nil, err
	}
	creator, err := c.creator(ctx)
	if err != nil {
		return nil, err
	}
	token, err = capability.Narrow(token, c.id, capability.Narrowing{
		Ops:  capability.Find | capability.Use | capability.ListenFrom | capability.SendTo,
		Path: path, Delegate: creator.Key,
	})
	if err != nil {
		return nil, fmt.Errorf("narrow the capability: %w", err)
	}
	return token, nil
}

// creator says who is at the other end: the capability is narrowed to its key and to no other.
func (c *Client) creator(ctx context.Context) (ca.Peer, error) {
	var p peer.Peer
	_, err := c.rpc.List(ctx, &apcpb.ListRequest{Version: wireVersion}, grpc.Peer(&p))
	if err != nil {
		return ca.Peer{}, readable(err)
	}
	return ca.PeerFromContext(peer.NewContext(ctx, &p))
}

// List tells of the user's paths.
func (c *Client) List(ctx context.Context) ([]Info, error) {
	reply, err := c.rpc.List(ctx, &apcpb.ListRequest{Version: wireVersion})
	if err != nil {
		return nil, readable(err)
	}
	var all []Info
	for _, p := range reply.GetPaths() {
		all = append(all, fromWire(p))
	}
	return all, nil
}

// Show tells of one path.
func (c *Client) Show(ctx context.Context, path string) (Info, error) {
	return infoOf(c.rpc.Show(ctx, &apcpb.PathRef{Version: wireVersion, Path: path}))
}

// Delete tears a path down; it answers when nothing of it is left.
func (c *Client) Delete(ctx context.Context, path string) (Info, error) {
	return infoOf(c.rpc.Delete(ctx, &apcpb.PathRef{Version: wireVersion, Path: path}))
}

// Renew has a path run under the user's present capability, until that lapses.
func (c *Client) Renew(ctx context.Context, path string) (Info, error) {
	token, err := c.narrowed(ctx, path)
	if err != nil {
		return Info{}, err
	}
	return infoOf(c.rpc.Renew(ctx, &apcpb.RenewRequest{Version: wireVersion, Path: path, Capability: token}))
}

func infoOf(w *apcpb.PathInfo, err error) (Info, error) {
	if err != nil {
		return Info{}, readable(err)
	}
	return fromWire(w), nil
}

// Watch calls f with each event of a path until the path has ended, ctx ends, or f returns an error.
func (c *Client) Watch(ctx context.Context, path string, f func(Event) error) error {
	stream, err := c.rpc.Watch(ctx, &apcpb.PathRef{Version: wireVersion, Path: path})
	if err != nil {
		return readable(err)
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return readable(err)
		}
		if err := f(eventFromWire(e)); err != nil {
			return err
		}
	}
}

// Lost reports whether an error says that the creator cannot be reached, or not any more: what was asked may be asked
// again.
func Lost(err error) bool { return status.Code(err) == codes.Unavailable }

// readable strips gRPC's words from an answer that the creator wrote for a person.
func readable(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	switch s.Code() {
	case codes.NotFound:
		return textError{s.Message(), ErrNoPath}
	case codes.FailedPrecondition:
		return textError{s.Message(), ErrRefused}
	case codes.InvalidArgument:
		return textError{s.Message(), ErrBadRequest}
	case codes.ResourceExhausted:
		return textError{s.Message(), ErrBusy}
	}
	return err
}

// textError is a sentinel error that reads as its sender wrote it.
type textError struct {
	text string
	is   error
}

func (e textError) Error() string { return e.text }
func (e textError) Unwrap() error { return e.is }
