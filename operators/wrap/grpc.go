package wrap

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"regexp"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/encoding/protowire"

	"ninja/connectors"
	"ninja/operators"
)

// makeGRPC is the factory of wrapped gRPC services: every ADU is a call of one unary method, named in full. Its request
// and its answer are each google.protobuf.BytesValue (or any message whose field 1 is bytes), google.protobuf.StringValue,
// or, with message="raw", the ADU itself as the message's bytes.
func (w *Wrapper) makeGRPC(_ context.Context, env operators.Env) (operators.Operator, error) {
	if err := checkArgs(env.Args, []string{"address", "method"}, "message", "tls"); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(env.Args["address"])
	if err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("argument address: want HOST:PORT")
	}
	if !method.MatchString(env.Args["method"]) {
		return nil, fmt.Errorf("argument method: want /PACKAGE.SERVICE/METHOD")
	}
	s := &grpcService{method: env.Args["method"]}
	switch env.Args["message"] {
	case "", "bytes", "string": // the same on the wire
	case "raw":
		s.raw = true
	default:
		return nil, fmt.Errorf("argument message: want bytes, string or raw")
	}
	var secure credentials.TransportCredentials
	switch env.Args["tls"] {
	case "", "yes":
		secure = credentials.NewTLS(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	case "no":
		secure = insecure.NewCredentials()
	default:
		return nil, fmt.Errorf("argument tls: want yes or no")
	}
	// passthrough: grpc resolves nothing and asks no DNS for a configuration; the name goes to our dialer as it is.
	s.conn, err = grpc.NewClient("passthrough:///"+env.Args["address"],
		grpc.WithTransportCredentials(secure), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return w.policy.dial(ctx, env.World, "tcp", address)
		}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(asItIs{}), grpc.WaitForReady(false),
			grpc.MaxCallRecvMsgSize(connectors.MaxPayload+16), grpc.MaxCallSendMsgSize(connectors.MaxPayload+16)))
	if err != nil {
		return nil, err
	}
	return w.operator(env, s), nil
}

// method is the full name of a method.
var method = regexp.MustCompile(`^/[A-Za-z_][A-Za-z0-9_.]{0,199}/[A-Za-z_][A-Za-z0-9_]{0,99}$`)

type grpcService struct {
	conn   *grpc.ClientConn
	method string
	raw    bool
}

func (s *grpcService) ask(ctx context.Context, payload []byte) ([]byte, error) {
	request := payload
	if !s.raw {
		request = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), payload)
	}
	var answer []byte
	if err := s.conn.Invoke(ctx, s.method, &request, &answer); err != nil {
		return nil, fmt.Errorf("call %s: %w", s.method, err)
	}
	if s.raw {
		return answer, nil
	}
	return field1(answer)
}

func (s *grpcService) close() { s.conn.Close() }

// field1 is the last field 1 of a message, empty when there is none.
func field1(message []byte) (value []byte, err error) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, fmt.Errorf("the answer is no message: %w", protowire.ParseError(n))
		}
		message = message[n:]
		if number == 1 && kind == protowire.BytesType {
			var used int
			if value, used = protowire.ConsumeBytes(message); used < 0 {
				return nil, fmt.Errorf("the answer is no message: %w", protowire.ParseError(used))
			}
			message = message[used:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return nil, fmt.Errorf("the answer is no message: %w", protowire.ParseError(n))
		}
		message = message[n:]
	}
	return value, nil
}

// asItIs is the codec of messages that are bytes already.
type asItIs struct{}

var _ encoding.Codec = asItIs{}

// Name says what the bytes are.
func (asItIs) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (asItIs) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("a message of type %T", v)
	}
	return *b, nil
}

// Unmarshal implements encoding.Codec. grpc reuses its buffers, so the bytes are copied.
func (asItIs) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a message of type %T", v)
	}
	*b = append([]byte(nil), data...)
	return nil
}
