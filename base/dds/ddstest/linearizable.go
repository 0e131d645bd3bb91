package ddstest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"ninja/base/dds"
)

// request and answer are one operation on one key, as a history records it.
type request struct {
	key    string
	get    bool
	remove bool
	expect *uint64
	value  string
}

type answer struct {
	unknown  bool // no answer came: it may have happened or not
	done     bool
	revision uint64
	value    string
}

// register is the state of one key in the model.
type register struct {
	value    string
	revision uint64 // 0: not there
	last     uint64 // greatest ever
}

// model is what one key of a store may do. A write's revision is the store's to choose, if it is greater than all before;
// that of a write without an answer is not known, and no other operation is compared with it.
var model = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			by[op.Input.(request).key] = append(by[op.Input.(request).key], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() []any { return []any{register{}} },
	Step: func(state, input, output any) []any {
		return step(state.(register), input.(request), output.(answer))
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// anyRevision stands for the revision of a write that nobody was told.
const anyRevision = ^uint64(0)

func step(s register, in request, out answer) []any {
	if in.get {
		if out.unknown {
			return []any{s}
		}
		if s.revision == anyRevision && out.value == s.value && out.revision > s.last {
			return []any{register{s.value, out.revision, out.revision}} // now it is known
		}
		if out.revision == s.revision && out.value == s.value {
			return []any{s}
		}
		return nil
	}
	if out.unknown {
		// Whether the revision was the expected one is known only by what follows, and so is what it is now.
		changed := register{in.value, anyRevision, s.last}
		if in.remove {
			changed = register{"", 0, s.last}
		}
		if in.expect != nil && *in.expect != s.revision && s.revision != anyRevision {
			return []any{s}
		}
		return []any{s, changed}
	}
	return stepKnown(s, in, out)
}

func stepKnown(s register, in request, out answer) []any {
	if s.revision == anyRevision && in.expect != nil { // the answer tells it
		told := out.revision
		if out.done {
			told = *in.expect
		}
		if told <= s.last {
			return nil
		}
		s.revision, s.last = told, told
	}
	must := in.expect == nil || *in.expect == s.revision
	if in.remove && s.revision == 0 {
		must = false
	}
	switch {
	case out.done != must:
		return nil
	case !out.done:
		if out.revision != s.revision {
			return nil
		}
		return []any{s}
	case in.remove:
		return []any{register{"", 0, s.last}}
	case out.revision <= s.last:
		return nil
	}
	return []any{register{in.value, out.revision, out.revision}}
}

// Recorder records what clients of a store do, to be checked for linearizability.
type Recorder struct {
	begun   time.Time
	mu      sync.Mutex
	history []porcupine.Operation
}

// NewRecorder begins a history.
func NewRecorder() *Recorder { return &Recorder{begun: time.Now()} }

// Work has a client do so many random operations on a few keys. An operation that fails without saying that it had no
// effect stays pending; after is called then.
func (r *Recorder) Work(ctx context.Context, s Store, client, operations, keys int, random *rand.Rand, after func(error)) {
	known := map[string]uint64{}
	for n := range operations {
		in := request{key: fmt.Sprint("k", random.IntN(keys)), value: fmt.Sprintf("%d.%d", client, n)}
		switch random.IntN(6) {
		case 0, 1:
			in.get = true
		case 2:
			in.remove = true
		case 3:
			in.remove = true
			in.expect = new(known[in.key])
		case 4:
			in.expect = new(known[in.key])
		}
		call := time.Since(r.begun)
		out, err := do(ctx, s, in)
		back := time.Since(r.begun)
		if err != nil {
			out, back = answer{unknown: true}, time.Duration(1<<62)
		} else {
			known[in.key] = out.revision
		}
		r.mu.Lock()
		r.history = append(r.history, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(back)})
		r.mu.Unlock()
		if err != nil {
			client += 1000 // whoever waits for an answer for ever does nothing else
			after(err)
		}
	}
}

func do(ctx context.Context, s Store, in request) (answer, error) {
	if in.get {
		value, revision, err := s.Get(ctx, "t", in.key)
		return answer{value: string(value), revision: revision}, err
	}
	w := dds.Write{Table: "t", Key: in.key, Delete: in.remove, Expect: in.expect}
	if !in.remove {
		w.Value = []byte(in.value)
	}
	done, err := s.Write(ctx, w)
	return answer{done: done.Done, revision: done.Revision}, err
}

// Check fails the test if no order of the operations explains all answers.
func (r *Recorder) Check(t testing.TB) {
	t.Helper()
	unknown := 0
	for _, op := range r.history {
		if op.Output.(answer).unknown {
			unknown++
		}
	}
	result := porcupine.CheckOperationsTimeout(model.ToModel(), r.history, time.Minute)
	t.Logf("PROVE %d operations, %d without an answer, linearizable: %s", len(r.history), unknown, result)
	if result != porcupine.Ok {
		t.Errorf("the history is not linearizable: %s", result)
	}
}

func testLinearizable(t *testing.T, s Store) {
	r := NewRecorder()
	var wg sync.WaitGroup
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for c := range 6 {
		wg.Go(func() {
			r.Work(t.Context(), s, c, 60, 3, rand.New(rand.NewPCG(seed, uint64(c))), func(err error) { t.Error(err) })
		})
	}
	wg.Wait()
	r.Check(t)
}

// SelfTest checks the checker, for one that finds nothing wrong with anything proves nothing: a read of what was
// overwritten, a write that was lost, a revision that went back, a comparison that was not made.
func SelfTest() error {
	op := func(client int, call, back int64, in request, out answer) porcupine.Operation {
		in.key = "k"
		return porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: back}
	}
	one := op(0, 0, 1, request{value: "1"}, answer{done: true, revision: 1})
	two := op(0, 2, 3, request{value: "2"}, answer{done: true, revision: 2})
	for _, wrong := range [][]porcupine.Operation{
		{one, two, op(1, 4, 5, request{get: true}, answer{value: "1", revision: 1})},
		{one, op(1, 4, 5, request{get: true}, answer{})},
		{two, op(0, 4, 5, request{value: "1"}, answer{done: true, revision: 1})},
		{one, op(1, 4, 5, request{value: "3", expect: new(uint64)}, answer{done: true, revision: 3})},
	} {
		if porcupine.CheckOperations(model.ToModel(), wrong) {
			return errors.New("a history that is not linearizable passes")
		}
	}
	if !porcupine.CheckOperations(model.ToModel(), []porcupine.Operation{one, two}) {
		return errors.New("a history that is linearizable fails")
	}
	return nil
}
