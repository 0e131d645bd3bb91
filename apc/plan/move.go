package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Hysteresis says when a running path moves to a better plan.
type Hysteresis struct {
	// Moving is what a move costs by itself, Stage what each stage costs that has to be made anew, in the unit of the
	// objective; zero is nothing.
	Moving, Stage float64
	// Share is the least share of the better plan's cost that a move must gain beyond that; zero is 0.1.
	Share float64
	// Counted says that the loads of the nodes count the running path: its own steps are then taken off before anything is
	// compared. Else a path would flee from the load that it makes itself.
	Counted bool
}

// Move reports whether the gain beats the cost of moving. The present path must have been priced anew, by Reprice; a
// path that no longer works has the cost +Inf.
func (h Hysteresis) Move(present, best float64) bool { return h.beats(present, best, h.Moving) }

func (h Hysteresis) beats(present, best, moving float64) bool {
	share := h.Share
	if share == 0 {
		share = 0.1
	}
	return !math.IsInf(best, 1) && present-best > moving+share*best
}

// Move is what to do with a running path in a newer catalogue.
type Move struct {
	// Move says whether to move to To.
	Move bool `json:"move"`
	// Broken says that the running plan does not work any more: an operator, a node or a transport of it is gone or
	// excluded, types have changed, or it breaks a bound. Then Gain is zero and means nothing.
	Broken bool `json:"broken,omitempty"`
	// Present is what the running plan costs now, zero when it is broken; Gain is how much less To costs, Cost what moving
	// there costs.
	Present float64 `json:"present"`
	Gain    float64 `json:"gain"`
	Cost    float64 `json:"cost"`
	// To is the best plan now; nil when there is none, which Refused explains.
	To      *Plan    `json:"to,omitempty"`
	Refused *Refusal `json:"refused,omitempty"`
	// Stays[i] is the position in the running plan's Steps of the step that is the i-th of To and goes on as it is: the
	// same operator at the same node with the same types. -1 is a stage to make before the old ones end.
	Stays []int `json:"stays,omitempty"`
	// HopsStay[i] is the position in the running plan's Hops of the hop that is the i-th of To, or -1.
	HopsStay []int `json:"hops_stay,omitempty"`
	// Ends are the positions in the running plan's Steps of those that end once To runs.
	Ends []int `json:"ends,omitempty"`
	// Why is the decision in a sentence, with numbers.
	Why string `json:"why"`
}

// Move decides whether a path that runs by a plan of an earlier catalogue should move to a better one of this catalogue: when it
// works no more, or when the gain beats the cost of moving. The error is that of a search that ran out of time.
func (c *Catalogue) Move(ctx context.Context, r Request, running *Plan, h Hysteresis) (*Move, error) {
	if h.Counted {
		var err error
		if c, err = c.relieved(running); err != nil {
			return nil, err
		}
	}
	m := &Move{Present: c.Reprice(r, running)}
	if m.Broken = math.IsInf(m.Present, 1); m.Broken {
		m.Present = 0
	}
	to, err := c.Plan(ctx, r)
	switch {
	case errors.As(err, &m.Refused):
		m.Why = "there is no plan: " + m.Refused.Text
		return m, nil
	case err != nil:
		return nil, err
	}
	m.To = to
	m.compare(running)
	made := 0
	for _, at := range m.Stays {
		if at < 0 {
			made++
		}
	}
	m.Cost = h.Moving + h.Stage*float64(made)
	if m.Broken {
		m.Move, m.Why = true, "the running path does not work any more"
		return m, nil
	}
	m.Gain = m.Present - to.Cost
	m.Move = made > 0 && h.beats(m.Present, to.Cost, m.Cost) || made == 0 && slices.Contains(m.HopsStay, -1) && h.beats(m.Present, to.Cost, h.Moving)
	m.Why = m.sentence(made)
	return m, nil
}

func (m *Move) sentence(made int) string {
	switch {
	case m.Move:
		return fmt.Sprintf("moving %d stages gains %.4f and costs %.4f", made, m.Gain, m.Cost)
	case made == 0 && !slices.Contains(m.HopsStay, -1):
		return "the running plan is still the best"
	}
	return fmt.Sprintf("the best plan gains %.4f, which is not enough for moving %d stages at %.4f", m.Gain, made, m.Cost)
}

// relieved is the catalogue without what a running plan takes of its nodes. A node's load was measured and may be less than
// the plan says.
func (c *Catalogue) relieved(p *Plan) (*Catalogue, error) {
	var ch Change
	at := make(map[string]int)
	for _, s := range p.Steps {
		n, ok := c.Node(s.Node.ID)
		if !ok {
			continue
		}
		i, seen := at[s.NodeID]
		if !seen {
			i = len(ch.Nodes)
			at[s.NodeID] = i
			ch.Nodes = append(ch.Nodes, n)
		}
		was := &ch.Nodes[i]
		was.Load = max(0, was.Load-s.CPU)
		if was.Memory > 0 && !s.Operator.Fixed {
			was.Memory += s.Memory
		}
	}
	next, err := c.With(ch)
	if err == nil {
		next.version = c.version
	}
	return next, err
}

// compare finds what of a running plan goes on in another: the longest common sequence of steps that are the same.
func (m *Move) compare(running *Plan) {
	a, b := running.Steps, m.To.Steps
	common := make([][]int, len(a)+1) // of what is left behind i and j
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if same(&a[i], &b[j]) {
				common[i][j] = max(common[i][j], 1+common[i+1][j+1])
			}
		}
	}
	m.Stays = slices.Repeat([]int{-1}, len(b))
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case same(&a[i], &b[j]) && common[i][j] == 1+common[i+1][j+1]:
			m.Stays[j] = i
			i, j = i+1, j+1
		case common[i][j] == common[i][j+1]:
			j++
		default:
			i++
		}
	}
	m.HopsStay = slices.Repeat([]int{-1}, len(m.To.Hops))
	for j := range m.HopsStay {
		i := m.Stays[j]
		if i >= 0 && m.Stays[j+1] == i+1 && running.Hops[i].Transport == m.To.Hops[j].Transport {
			m.HopsStay[j] = i
		}
	}
	for i := range a {
		if !slices.Contains(m.Stays, i) {
			m.Ends = append(m.Ends, i)
		}
	}
}

// same reports whether a step of one plan is one of another, so that its instance can go on.
func same(a, b *Step) bool {
	return a.Name == b.Name && a.NodeID == b.NodeID && a.In == b.In && a.Out == b.Out && slices.Equal(a.Operator.Spec.Args, b.Operator.Spec.Args)
}
