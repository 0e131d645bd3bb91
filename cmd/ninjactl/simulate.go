package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ninja/sds/route/sim"
)

type sdsSimulate struct {
	Servers  int           `default:"100" help:"Servers in all."`
	Services int           `default:"200" help:"Services at each."`
	Fanout   int           `default:"10" help:"Children of a server."`
	Queries  int           `default:"5000" help:"Queries in all, from random servers."`
	Periods  int           `default:"10" help:"Periods, after warming up."`
	Period   time.Duration `default:"1s" help:"How long a period is taken to be, for bytes a second."`
	Churn    float64       `default:"0.002" help:"Share of services that change in a period."`
	Cut      float64       `default:"0.01" help:"Share of links that are down in a period."`
	Delay    float64       `default:"0.1" help:"Share of summaries that come a period late."`
	Seed     uint64        `default:"1" help:"What everything is drawn from."`
	Until    float64       `default:"1e9" help:"Also say by the law of smaller runs what a link above so many services would carry; 0 for not."`
	output
}

// Run makes the run that was asked for, and with Until two smaller ones, which say whether the law holds for it.
func (s *sdsSimulate) Run(ctx context.Context) error {
	cfg := sim.Config{
		Servers: s.Servers, Services: s.Services, Fanout: s.Fanout, Queries: s.Queries, Periods: s.Periods, Seed: s.Seed,
		Churn: s.Churn, Cut: s.Cut, Delay: s.Delay, Paper: true,
	}
	if s.Servers < 2 || s.Fanout < 2 || s.Services < 1 || s.Queries < 1 || s.Periods < 1 {
		return errors.New("simulate: two servers, a fan-out of two, and one of everything else are the least")
	}
	r, err := sim.Run(ctx, cfg)
	if err != nil {
		return err
	}
	var smaller []sim.Result
	if configs, ok := r.Smaller(); ok && s.Until > 0 {
		for _, c := range configs {
			x, err := sim.Run(ctx, c)
			if err != nil {
				return err
			}
			smaller = append(smaller, x)
		}
	}
	err = s.print(map[string]any{"run": r, "smaller": smaller}, func(w io.Writer) {
		r.Print(w, s.Period.Seconds())
		switch {
		case len(smaller) == 2:
			r.Extrapolate(w, &smaller[0], &smaller[1], s.Until, s.Period.Seconds())
		case s.Until > 0:
			fmt.Fprintln(w, "the run is too small to be told by smaller ones: more servers are wanted")
		}
	})
	if err == nil && !r.Good() {
		err = fmt.Errorf("seed %d: something was missed, an honest child was flagged, news came too late, or less than 95 %% of forwards were useful", s.Seed)
	}
	return err
}
