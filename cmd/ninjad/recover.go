package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recovering are options of a gRPC server in which a call that panics fails, and nothing else: one bad message must not
// take everybody's daemon with it.
func recovering(log *slog.Logger) []grpc.ServerOption {
	failed := func(method string, p any) error {
		log.Error("a call was not handled: please report this", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		return status.Error(codes.Internal, "this call was not handled because of a mistake in the server; its log has more")
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, m any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
			defer func() {
				if p := recover(); p != nil {
					answer, err = nil, failed(info.FullMethod, p)
				}
			}()
			return handle(ctx, m)
		}),
		grpc.ChainStreamInterceptor(func(s any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = failed(info.FullMethod, p)
				}
			}()
			return handle(s, stream)
		}),
	}
}
