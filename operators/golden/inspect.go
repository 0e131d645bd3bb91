package golden

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ninja/internal/world"
)

// InspectorConfig makes an Inspector.
type InspectorConfig struct {
	// Check is how an examination is made; its Samples being 0 is 4 here.
	Check Config
	// Period is the mean time between two examinations; 0 is 10 minutes. Each time is drawn anew.
	Period time.Duration
	// Subjects lists what is in service. An operator is best made where it serves, by a path to it, so that it cannot
	// tell an examination from any other request.
	Subjects func() []Subject
	// Set finds the samples for a subject; nil when there are none.
	Set func(s Subject) *Set
	// Verdict is told the report of each examination.
	Verdict func(s Subject, r *Report)
	Log     *slog.Logger
}

// Inspector examines operators while they are in service.
type Inspector struct{ cfg InspectorConfig }

// NewInspector checks the configuration.
func NewInspector(cfg InspectorConfig) (*Inspector, error) {
	if cfg.Subjects == nil || cfg.Set == nil || cfg.Verdict == nil {
		return nil, errors.New("golden: an inspector wants subjects, samples, and somebody to tell")
	}
	if cfg.Period == 0 {
		cfg.Period = 10 * time.Minute
	}
	if cfg.Check.Samples == 0 {
		cfg.Check.Samples = 4
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Inspector{cfg}, nil
}

// Run examines one operator after another, drawn at random, until ctx ends.
func (i *Inspector) Run(ctx context.Context) error {
	w := i.cfg.Check.World
	for {
		if err := world.Sleep(ctx, w.Jitter(i.cfg.Period)); err != nil {
			return nil
		}
		var can []Subject
		for _, s := range i.cfg.Subjects() {
			if i.cfg.Set(s) != nil {
				can = append(can, s)
			}
		}
		if len(can) == 0 {
			continue
		}
		s := can[w.Uint64()%uint64(len(can))]
		r, err := Check(ctx, i.cfg.Check, s, i.cfg.Set(s))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			i.cfg.Log.Warn("an operator could not be examined", "operator", s.Spec.Name, "error", err)
			continue
		}
		i.cfg.Verdict(s, r)
	}
}

// Compare gives operators of one pair of types the same requests, of which no right answer need be known, and reports how
// far each agrees with the others: Quality is the median of its agreements. One that agrees far less than most do is spoken
// against; where most lie alike, that is the honest one, and so a comparison is a reason to examine, not to refuse.
func Compare(ctx context.Context, cfg Config, subjects []Subject, set *Set) ([]*Report, error) {
	cfg = cfg.withDefaults()
	if len(subjects) < 3 {
		return nil, fmt.Errorf("compare %d operators: with fewer than 3 nobody can say which one differs", len(subjects))
	}
	drawn := set.Draw(cfg.World, cfg.Samples)
	if len(drawn) == 0 {
		return nil, fmt.Errorf("no samples from %v to %v", set.In, set.Out)
	}
	reports := make([]*Report, len(subjects))
	outputs := make([][][][]byte, len(subjects))
	for i, s := range subjects {
		if err := set.Fits(&s.Spec); err != nil {
			return nil, err
		}
		reports[i] = &Report{Operator: s.Spec.Name}
		got, took, err := perform(ctx, cfg, s, set, drawn)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			reports[i].against("%v", err)
		}
		outputs[i] = got
		reports[i].time(cfg, &s.Spec, took)
	}
	var all []float64
	for i, r := range reports {
		r.agree(set, i, outputs)
		all = append(all, r.Quality)
	}
	slices.Sort(all)
	for _, r := range reports {
		if usual := all[len(all)/2]; r.Quality < usual-2*cfg.Slack {
			r.against("it agrees with the others by %.2f, where %.2f is usual", r.Quality, usual)
		}
	}
	return reports, nil
}

// agree sets the median of the agreement of one operator's outputs with each other one's.
func (r *Report) agree(set *Set, me int, outputs [][][][]byte) {
	var with []float64
	r.Samples, r.Worst = len(outputs[me]), 1
	for other := range outputs {
		n := min(len(outputs[me]), len(outputs[other]))
		if other == me || n == 0 {
			continue
		}
		sum := 0.0
		for k := range n {
			sum += min(max(set.Judge(outputs[other][k], outputs[me][k]), 0), 1)
		}
		with = append(with, sum/float64(n))
		r.Worst = min(r.Worst, sum/float64(n))
	}
	if len(with) == 0 {
		r.Worst = 0
		return
	}
	slices.Sort(with)
	r.Quality = with[len(with)/2]
}
