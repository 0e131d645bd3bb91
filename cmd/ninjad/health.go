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

	"ninja/sds"
	"ninja/sds/announce"
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

// counter adds a number that only grows and is read when it is asked for.
func (h *health) counter(name, help string, labels prometheus.Labels, read func() float64) {
	h.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, read))
}

// watchSDS adds what an SDS server counts. It speaks of hidden services too: that is why the page has an address of its
// own.
func (h *health) watchSDS(s *sds.Server, r *announce.Receiver) {
	h.gauge("ninja_sds_services", "Services that are held now, hidden ones too.", nil, func() float64 { return float64(s.Stats().Services) })
	h.gauge("ninja_sds_watches", "Watches that are open.", nil, func() float64 { return float64(s.Stats().Watches) })
	h.counter("ninja_sds_queries_total", "Queries answered.", nil, func() float64 { return float64(s.Stats().Queries) })
	h.counter("ninja_sds_expired_total", "Services that were not refreshed in time.", nil, func() float64 { return float64(s.Stats().Expired) })
	h.counter("ninja_sds_refused_total", "Descriptions that were refused.", nil, func() float64 { return float64(s.Stats().Refused) })
	h.counter("ninja_announcements_total", "Datagrams received from services.", nil, func() float64 { return float64(r.Stats().Datagrams) })
	h.gauge("ninja_announcement_epochs", "Senders' keys that are held.", nil, func() float64 { return float64(r.Stats().Epochs) })
	for _, reason := range announce.Reasons() {
		h.counter("ninja_announcements_refused_total", "Announcements that were refused, by reason.", prometheus.Labels{"reason": string(reason)},
			func() float64 { return float64(r.Stats().Refused[reason]) })
	}
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
