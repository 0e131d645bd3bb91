package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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
func (s *sdsSimulate) Run(context.Context) error {
	cfg := sim.Config{
		Servers: s.Servers, Services: s.Services, Fanout: s.Fanout, Queries: s.Queries, Periods: s.Periods, Seed: s.Seed,
		Churn: s.Churn, Cut: s.Cut, Delay: s.Delay, Paper: true,
	}
	if s.Servers < 2 || s.Fanout < 2 || s.Services < 1 || s.Queries < 1 || s.Periods < 1 {
		return errors.New("simulate: two servers, a fan-out of two, and one of everything else are the least")
	}
	r, err := sim.Run(cfg)
	if err != nil {
		return err
	}
	var smaller []sim.Result
	if s.Until > 0 {
		for _, part := range []int{9, 3} {
			c := cfg
			c.Servers, c.Queries, c.Paper, c.Cut, c.Delay = max(s.Fanout+2, s.Servers/part), 200, false, 0, 0
			x, err := sim.Run(c)
			if err != nil {
				return err
			}
			smaller = append(smaller, x)
		}
	}
	err = s.print(map[string]any{"run": r, "smaller": smaller}, func(w io.Writer) {
		r.Print(w, s.Period.Seconds())
		if len(smaller) == 2 {
			s.extrapolate(w, smaller, &r)
		}
	})
	if err == nil && !r.Good() {
		err = fmt.Errorf("seed %d: something was missed, or less than 95 %% of forwards to children were useful", s.Seed)
	}
	return err
}

// extrapolate says what the law of the smaller runs says of the run, and of the size that was asked for.
func (s *sdsSimulate) extrapolate(w io.Writer, smaller []sim.Result, r *sim.Result) {
	at := func(x *sim.Result) (services, terms, rate float64) {
		return float64(x.Behind[0]), float64(x.Terms[0]), float64(x.Bytes[0]) / float64(x.Links[0]) / float64(x.Periods) / s.Period.Seconds()
	}
	s1, t1, r1 := at(&smaller[0])
	s2, t2, r2 := at(&smaller[1])
	size, terms, rate := at(r)
	if s1 >= s2 || s2 >= size {
		fmt.Fprintln(w, "the run is too small to be told by smaller ones: more servers are wanted")
		return
	}
	tl, rl := sim.Fit(s1, t1, s2, t2), sim.Fit(s1, r1, s2, r2)
	fmt.Fprintf(w, "law: terms = %.1f x services^%.3f, changes = %.1f x services^%.3f bytes a second; of the run it says %.0f terms (measured %.0f) and %.0f bytes a second (measured %.0f)\n",
		tl.A, tl.B, rl.A, rl.B, tl.At(size), terms, rl.At(size), rate)
	whole := tl.At(s.Until)
	fmt.Fprintf(w, "above %.3g services a link would tell %.3g terms, %.3g bytes as a whole and %.3g bytes a second of changes", s.Until, whole, sim.Bytes(math.Max(2, whole)), rl.At(s.Until))
	if whole > 16<<20 {
		fmt.Fprintf(w, ": over the %d terms of one summary, so that the services of such a branch must be spread over %d more links", 16<<20, int(math.Ceil(whole/(16<<20))))
	}
	fmt.Fprintln(w)
}
