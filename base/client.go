package base

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"ninja/base/basepb"
	"ninja/ca"
)

// wireVersion is the version of every message.
const wireVersion = 1

// Client commands a base node.
type Client struct {
	conn *grpc.ClientConn
	rpc  basepb.BaseClient
}

// NewClient prepares a client of the node at the control address; it connects at the first call.
func NewClient(id *ca.Identity, address string) (*Client, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(ca.ClientCredentials(id, ca.KindIs(ca.KindBase))))
	if err != nil {
		return nil, fmt.Errorf("base node at %s: %w", address, err)
	}
	return &Client{conn: conn, rpc: basepb.NewBaseClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Start pushes a component into the node; it returns when the service runs.
func (c *Client) Start(ctx context.Context, component, name string, args map[string]string) error {
	_, err := c.rpc.Start(ctx, &basepb.StartRequest{Version: wireVersion, Component: component, Name: name, Args: args})
	return readable(err)
}

// Stop withdraws a service.
func (c *Client) Stop(ctx context.Context, name string) error {
	_, err := c.rpc.Stop(ctx, &basepb.StopRequest{Version: wireVersion, Name: name})
	return readable(err)
}

// List tells of the services that run and names the components that could.
func (c *Client) List(ctx context.Context) (services []Status, components []string, err error) {
	reply, err := c.rpc.List(ctx, &basepb.ListRequest{Version: wireVersion})
	if err != nil {
		return nil, nil, readable(err)
	}
	for _, s := range reply.GetServices() {
		services = append(services, Status{
			Name: s.GetName(), Component: s.GetComponent(), State: s.GetState(), Started: time.UnixMilli(s.GetStartedUnixMs()),
		})
	}
	return services, reply.GetComponents(), nil
}

// readable strips gRPC's words from what the node wrote for a person.
func readable(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return fmt.Errorf("%s", s.Message())
	}
	return err
}
