package golden

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/internal/world"
	"ninja/operators"
)

// Subject is an operator to be examined: what it says of itself, and how an instance is made of it, as for any path.
type Subject struct {
	Spec operators.Spec
	// Make makes an instance; usually it is Registry.Make with the description's program.
	Make func(ctx context.Context, env operators.Env) (operators.Operator, error)
}

// In is the subject that a registry makes of a description.
func In(r *operators.Registry, spec operators.Spec) Subject {
	return Subject{spec, func(ctx context.Context, env operators.Env) (operators.Operator, error) {
		return r.Make(ctx, spec.Program, env)
	}}
}

// Config says how strict an examination is.
type Config struct {
	World world.World
	// Samples is how many are drawn; 0 is 16.
	Samples int
	// Patience is how long one sample may take; 0 is 30 s.
	Patience time.Duration
	// Slack is how far the measured quality may be below the declared one; 0 is 0.1.
	Slack float64
	// Slower is by which factor the measured latency may exceed the declared one; 0 is 3: the examiner's machine is not
	// the publisher's.
	Slower float64
	// Discreet leaves out of the report what the operator itself says: what a publisher is told of an examination must not
	// carry samples.
	Discreet bool
	// Data fetches external data for the operator; nil when it needs none.
	Data func(ctx context.Context, ref string) ([]byte, error)
}

func (c Config) withDefaults() Config {
	if c.Samples == 0 {
		c.Samples = 16
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Slack == 0 {
		c.Slack = 0.1
	}
	if c.Slower == 0 {
		c.Slower = 3
	}
	return c
}

// Report is what an examination found.
type Report struct {
	Operator string
	// Samples is how many were judged, Quality their mean judgement, Worst the least.
	Samples        int
	Quality, Worst float64
	// P50 and P99 are of the time from the end of a sample to the end of its output.
	P50, P99 time.Duration
	// CPU is the processor time of this process and its ended children during the examination, for each sample: with
	// other work going on beside, it is an upper bound.
	CPU time.Duration
	// Against are the reasons to refuse the operator; none is a pass.
	Against []string
}

// Passed reports whether nothing speaks against the operator.
func (r *Report) Passed() bool { return len(r.Against) == 0 }

// OnlySlow reports whether nothing but its latency speaks against the operator: a busy machine does that too, and to try
// again tells.
func (r *Report) OnlySlow() bool { return len(r.Against) == 1 && strings.HasPrefix(r.Against[0], Slow) }

// String is the report for a person, a line each.
func (r *Report) String() string {
	verdict := "passed"
	if !r.Passed() {
		verdict = "refused: " + strings.Join(r.Against, "; ")
	}
	return fmt.Sprintf("%s: %s\nsamples %d, quality %.3f (worst %.3f), latency p50 %v p99 %v, cpu %v a sample\n",
		r.Operator, verdict, r.Samples, r.Quality, r.Worst, r.P50, r.P99, r.CPU)
}

func (r *Report) against(format string, args ...any) {
	r.Against = append(r.Against, fmt.Sprintf(format, args...))
}

// Check examines an operator with samples of a set. The report says whether it passed; an error is the examiner's own
// (the set does not fit the description, ctx ended).
func Check(ctx context.Context, cfg Config, s Subject, set *Set) (*Report, error) {
	cfg = cfg.withDefaults()
	if err := set.Fits(&s.Spec); err != nil {
		return nil, err
	}
	drawn := set.Draw(cfg.World, cfg.Samples)
	if len(drawn) == 0 {
		return nil, fmt.Errorf("no samples from %v to %v", set.In, set.Out)
	}
	r := &Report{Operator: s.Spec.Name, Worst: 1}
	began := processorTime()
	outputs, took, err := perform(ctx, cfg, s, set, drawn)
	r.CPU = (processorTime() - began) / time.Duration(len(drawn))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var own *ownError
	if errors.As(err, &own) && cfg.Discreet {
		err = errors.New("it failed, in words that are not passed on; ninjactl operator check tries it with your own samples")
	}
	if err != nil {
		r.against("sample %d of %d: %v", len(outputs)+1, len(drawn), err)
	}
	r.judge(cfg, set, &s.Spec, drawn, outputs)
	r.time(cfg, &s.Spec, took)
	return r, nil
}

// judge compares what was got with what was wanted.
func (r *Report) judge(cfg Config, set *Set, spec *operators.Spec, drawn []Sample, outputs [][][]byte) {
	answers := make(map[string]bool)
	wanted := make(map[string]bool)
	for i, got := range outputs {
		q := min(max(set.Judge(drawn[i].Want, got), 0), 1)
		r.Samples++
		r.Quality += q
		r.Worst = min(r.Worst, q)
		if i == 0 {
			r.length(set, drawn[i], got)
		}
		answers[string(bytes.Join(got, nil))] = true
		wanted[string(bytes.Join(drawn[i].Want, nil))] = true
	}
	if r.Samples == 0 {
		r.Worst = 0
		return
	}
	r.Quality /= float64(r.Samples)
	if len(answers) == 1 && len(wanted) > 1 {
		r.against("%d different requests had the same answer", len(wanted))
	}
	declared := spec.Cost.Quality
	if declared == 0 {
		declared = 1
	}
	if r.Quality < declared-cfg.Slack {
		r.against("quality %.2f where %.2f is declared", r.Quality, declared)
	}
}

// Slow is what Against says of a latency, at its beginning.
const Slow = "latency "

// time compares the latency with what is declared. What is under 10 ms is not held against anyone, nor is the slowest
// sample of several: one of them started the operator, and any may have met a busy machine.
func (r *Report) time(cfg Config, spec *operators.Spec, took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	r.P50, r.P99 = took[len(took)/2], took[(len(took)*99-1)/100]
	declared, slow := time.Duration(spec.Cost.Latency), took[max(0, min(len(took)-2, (len(took)*99-1)/100))]
	if bound := time.Duration(float64(declared) * cfg.Slower); slow > max(bound, 10*time.Millisecond) {
		r.against(Slow+"%v where %v is declared", slow.Round(time.Millisecond), declared)
	}
}

// processorTime is what this process and its ended children have used.
func processorTime() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// Bounds of an output.
const (
	maxADUs  = 10000
	maxBytes = 16 << 20
)

// perform runs the samples through the operator and returns the outputs until the first that failed.
func perform(ctx context.Context, cfg Config, s Subject, set *Set, drawn []Sample) (outputs [][][]byte, took []time.Duration, err error) {
	if !set.Stream {
		return requests(ctx, cfg, s, set, drawn)
	}
	for _, sample := range drawn {
		o, t, err := requests(ctx, cfg, s, set, []Sample{sample})
		if err != nil {
			return outputs, took, err
		}
		outputs, took = append(outputs, o...), append(took, t...)
	}
	return outputs, took, nil
}

// requests gives one instance one sample after another.
func requests(ctx context.Context, cfg Config, s Subject, set *Set, drawn []Sample) (outputs [][][]byte, took []time.Duration, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	cancel := func() { fail(nil) }
	defer cancel()
	args := make(map[string]string)
	for _, a := range s.Spec.Args {
		args[a.Name] = a.Value
	}
	op, err := s.Make(ctx, operators.Env{World: cfg.World, In: set.In, Out: set.Out, Args: args, Data: cfg.Data,
		Note: func(kind, text string) {
			if kind == "fault" { // it says itself that there will be no answer
				fail(&ownError{errors.New(text)})
			}
		}})
	if err != nil {
		return nil, nil, &ownError{fmt.Errorf("make the operator: %w", err)}
	}
	to, in := mem.Pair(0)
	out, from := mem.Pair(0)
	ended := make(chan error, 1)
	go func() {
		ended <- guard(func() error { return op.Run(ctx, in, out) })
		out.Close()
		in.Close()
	}()
	defer func() {
		cancel()
		to.Close()
		from.Close()
		select {
		case <-ended:
		case <-time.After(cfg.Patience): // it does not end when it should; it is abandoned
		}
		if c, ok := op.(io.Closer); ok {
			c.Close()
		}
	}()
	for _, sample := range drawn {
		o, t, err := one(ctx, cfg, set.Stream, sample, to, from)
		if err != nil {
			return outputs, took, explain(err, ended)
		}
		outputs, took = append(outputs, o), append(took, t)
	}
	return outputs, took, nil
}

// guard makes a panic of an operator its error.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it panicked: %v", v)
		}
	}()
	return f()
}

// ownError is the operator's own, in its own words.
type ownError struct{ error }

// Unwrap is the error.
func (e *ownError) Unwrap() error { return e.error }

// explain puts the operator's own error in place of that of its hop.
func explain(err error, ended chan error) error {
	if own := new(ownError); errors.As(err, &own) {
		return err
	}
	select {
	case own := <-ended:
		ended <- own
		if own != nil {
			return &ownError{own}
		}
		return errors.New("it ended before its input did")
	default:
		return err
	}
}

// one gives a sample and takes its output: up to a mark, or, of a stream, up to its end.
func one(ctx context.Context, cfg Config, stream bool, s Sample, to connectors.Writer, from connectors.Reader) (output [][]byte, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Patience)
	defer cancel()
	var given time.Time
	fed := make(chan error, 1)
	go func() {
		err := feed(ctx, s, stream, to)
		given = time.Now()
		fed <- err
	}()
	size := 0
	for {
		a, err := from.Read(ctx)
		if errors.Is(err, io.EOF) && stream {
			break
		}
		if err != nil {
			<-fed
			var own *ownError
			switch {
			case errors.As(context.Cause(ctx), &own):
				return nil, 0, own
			case ctx.Err() != nil:
				err = fmt.Errorf("no end of its output within %v", cfg.Patience)
			}
			return nil, 0, fmt.Errorf("read its output: %w", err)
		}
		output = append(output, a.Payload)
		if size += len(a.Payload); len(output) > maxADUs || size > maxBytes {
			cancel()
			<-fed
			return nil, 0, errors.New("its output has no end")
		}
		if !stream && a.Mark != 0 {
			break
		}
	}
	if err := <-fed; err != nil {
		return nil, 0, fmt.Errorf("give it the sample: %w", err)
	}
	return output, max(0, time.Since(given)), nil
}

func feed(ctx context.Context, s Sample, stream bool, to connectors.Writer) error {
	for i, p := range s.In {
		a := connectors.ADU{Payload: slices.Clone(p)}
		if i == len(s.In)-1 {
			a.Mark = connectors.EndOfDocument
			if stream {
				a.Mark = connectors.EndOfUtterance
			}
		}
		if err := to.Write(ctx, a); err != nil {
			return err
		}
	}
	if stream {
		return to.Close()
	}
	return nil
}
