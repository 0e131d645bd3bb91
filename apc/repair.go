package apc

import (
	"fmt"
	"slices"
	"time"

	"ninja/ca"
	"ninja/operators/host"
)

// blameTime is how long a neighbour's own report is waited for. A stage whose hop broke blames its neighbour, and the
// neighbour's own report, a fault of its own or the end of a listener who hung up, says why.
const blameTime = 300 * time.Millisecond

// Bounds of repair.
const (
	// maxRepairs is how often a path is repaired within repairTime before it is given up.
	maxRepairs = 5
	repairTime = time.Minute
	// avoidTime is how long a path does without a node that was blamed: as long as the directory may still name it.
	avoidTime = 2 * time.Minute
	// maxTries bounds the attempts of one repair; the last one takes the old epoch down first, for nodes that cannot hold both.
	// tryAgain is the wait before the second.
	maxTries = 3
	tryAgain = 200 * time.Millisecond
)

// verdict is what a creator makes of what it heard.
type verdict struct {
	why string // for a person
	// blamed are the nodes to do without. Without any the hop between two living nodes broke, and the path is made again
	// as it was; accusers are those who said so.
	blamed, accusers []ca.ID
}

func (v *verdict) blame(node ca.ID, format string, args ...any) {
	if v.why == "" {
		v.why = fmt.Sprintf(format, args...)
	}
	if !slices.Contains(v.blamed, node) {
		v.blamed = append(v.blamed, node)
	}
}

// diagnose finds whose fault it was. Whoever reports a fault of its own is believed, and so is an accuser when the way to
// the accused is cut. That a living node is accused by another says only that the hop between them broke: a liar
// moves nobody else.
func diagnose(signs []report, cut map[ca.ID]bool) (v verdict) {
	for _, r := range signs {
		switch {
		case r.lost != nil:
			v.blame(r.from.id, "control of %s at %s is lost: %v", r.from.id, r.from.control, r.lost)
		case r.Kind == host.Fault && r.Hop == "" && r.Stage == "":
			v.blame(r.from.id, "%s: %s", r.from.id, r.Text)
		case r.Kind == host.Fault && r.Hop == "":
			v.blame(r.from.id, "%s at %s: %s", r.Stage, r.from.id, r.Text)
		}
	}
	if v.blamed != nil {
		return v
	}
	for _, r := range signs {
		if cut[r.Neighbour] {
			v.blame(r.Neighbour, "%s is gone: %s at %s: %s", r.Neighbour, r.Stage, r.from.id, r.Text)
		}
	}
	if v.blamed != nil {
		return v
	}
	for _, r := range signs {
		if v.why == "" {
			v.why = fmt.Sprintf("%s at %s: %s", r.Stage, r.from.id, r.Text)
		}
		v.accusers = append(v.accusers, r.from.id)
	}
	return v
}

// history is what a path was repaired for.
type history struct {
	repairs []time.Time
	accused map[ca.ID]time.Time // when somebody last said that a hop broke
	avoid   map[ca.ID]time.Time // nodes to do without, until when
}

func newHistory() history {
	return history{accused: make(map[ca.ID]time.Time), avoid: make(map[ca.ID]time.Time)}
}

// admit notes a repair, unless there were too many of late.
func (h *history) admit(now time.Time) error {
	h.repairs = slices.DeleteFunc(h.repairs, func(t time.Time) bool { return now.Sub(t) >= repairTime })
	if len(h.repairs) >= maxRepairs {
		return fmt.Errorf("%d repairs within %v did not help", len(h.repairs), repairTime)
	}
	h.repairs = append(h.repairs, now)
	return nil
}

// judge completes a verdict by what happened before: who says again that its hop broke is done without itself, unless it
// holds an endpoint.
func (h *history) judge(v *verdict, b *blueprint, now time.Time) {
	for _, a := range v.accusers {
		if last, ok := h.accused[a]; ok && now.Sub(last) < repairTime && !b.ends(a) {
			v.blamed = append(v.blamed, a)
		}
		h.accused[a] = now
	}
	for _, id := range v.blamed {
		h.avoid[id] = now.Add(avoidTime)
	}
}

// avoided are the nodes to do without, in order.
func (h *history) avoided(now time.Time) (all []ca.ID) {
	for id, until := range h.avoid {
		if now.Before(until) {
			all = append(all, id)
		} else {
			delete(h.avoid, id)
		}
	}
	slices.Sort(all)
	return all
}
