package apc

import (
	"sync"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/operators/host"
)

// learned is what running paths have reported of what operators really cost. Estimates are published when they have
// moved enough to matter, so that catalogues do not change with every heartbeat. Safe for concurrent use.
type learned struct {
	mu    sync.Mutex
	costs *plan.Costs
	at    map[placeKey]operators.Cost // published
	log   []string                    // names of operators whose published costs changed
	begun int                         // number of the first entry of log
}

type placeKey struct {
	operator string
	node     ca.ID
}

// maxLearned bounds the pairs of operator and node that are learned.
const maxLearned = 20_000

func newLearned() *learned {
	return &learned{costs: plan.NewCosts(maxLearned), at: make(map[placeKey]operators.Cost)}
}

// report takes in what a node measured of an operator of a path: nothing is concluded from one sample (see plan.Costs).
// described is what the operator's description says, of which memory, price and quality stay. What is published has the
// time of processing, as measured, for its latency.
func (l *learned) report(operator string, node ca.ID, s host.StageStats, described operators.Cost) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.costs.Report(operator, node, plan.Sample{P50: s.Process, P99: s.ProcessP99, CPU: s.CPU})
	got, ok := l.costs.Get(operator, node)
	if !ok {
		return
	}
	key := placeKey{operator, node}
	now := described
	now.Latency, now.CPU = operators.Latency(got.P99), got.CPU
	if was, had := l.at[key]; had && near(float64(was.Latency), float64(now.Latency)) && near(was.CPU, now.CPU) {
		return
	}
	l.at[key] = now
	if len(l.log) >= maxLog {
		l.log, l.begun = append([]string(nil), l.log[len(l.log)/2:]...), l.begun+len(l.log)/2
	}
	l.log = append(l.log, operator)
}

// near says that an estimate has moved by less than a tenth.
func near(was, now float64) bool { return now >= 0.9*was && now <= 1.1*was }

// cost is what was measured of an operator at a node; nil is nothing.
func (l *learned) cost(operator string, node ca.ID) *operators.Cost {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := l.at[placeKey{operator, node}]; ok {
		return &c
	}
	return nil
}

// since lists the operators whose costs changed after the seen-th change, and how many changes there were; all says
// that too many were forgotten to tell.
func (l *learned) since(seen int) (names []string, now int, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = l.begun + len(l.log)
	if seen < l.begun {
		return nil, now, true
	}
	return append(names, l.log[seen-l.begun:]...), now, false
}

// of lists what was learned of some operators at their places.
func (l *learned) of(operators []plan.Operator) (all []Learned) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range operators {
		for _, p := range o.Places {
			if got, ok := l.costs.Get(o.Name, p.Node); ok {
				all = append(all, Learned{o.Name, p.Node, got.P50, got.P99, got.CPU, got.Reports})
			}
		}
	}
	return all
}
