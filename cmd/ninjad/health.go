package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health serves /healthz and /metrics without identities: give it an address that only those who may read it reach.
type health struct {
	ready    atomic.Bool
	registry *prometheus.Registry
}

func newHealth() *health {
	h := &health{registry: prometheus.NewRegistry()}
	h.gauge("ninja_ready", "1 when every role is ready.", nil, func() float64 {
		if h.ready.Load() {
			return 1
		}
		return 0
	})
	return h
}

// gauge adds a number that is read when it is asked for.
func (h *health) gauge(name, help string, labels prometheus.Labels, read func() float64) {
	h.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read))
}

// serve opens the address and answers until the daemon ends.
func (h *health) serve(d *daemon) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.ready.Load() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.registry, promhttp.HandlerOpts{}))
	l, err := net.Listen("tcp", d.cfg.HTTP)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	d.ready["http"] = l.Addr().String()
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	d.keep(d.log, "http", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stop()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}
