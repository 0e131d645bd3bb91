package tree

import (
	"sync"

	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// gathering puts the answers of branches together at the first server.
type gathering struct {
	tell emit
	want route.Want
	mu   sync.Mutex
	all  *route.Gather
	last *treepb.Answer
}

// take is the emit of the question's own answers.
func (g *gathering) take(m *treepb.Answer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var news []*treepb.Hit
	for _, h := range m.GetHits() {
		f := h.GetFound()
		fresh := g.all.Add(route.Match{
			ID: f.GetOwner() + "#" + f.GetName(), Version: f.GetVersion(), Item: h,
			Place: route.Place{Rank: int(h.GetRank()), Value: h.GetValue(), Text: h.GetText()},
		})
		if fresh && g.want != route.Best {
			news = append(news, h)
		}
	}
	m.Hits = news
	if m.GetLast() { // told by end
		g.last = m
		return nil
	}
	if empty(m) {
		return nil
	}
	return g.tell(m)
}

// end tells what had to wait for all, and the last answer.
func (g *gathering) end() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.want == route.Best {
		m, size := &treepb.Answer{}, 0
		for _, x := range g.all.Result() {
			h := x.Item.(*treepb.Hit)
			if size += len(h.GetFound().GetDescription()) + 1024; size > answerSize {
				if err := g.tell(m); err != nil {
					return err
				}
				m, size = &treepb.Answer{}, 0
			}
			m.Hits = append(m.Hits, h)
		}
		if len(m.Hits) > 0 {
			if err := g.tell(m); err != nil {
				return err
			}
		}
	}
	if g.last == nil {
		g.last = &treepb.Answer{Last: true}
	}
	return g.tell(g.last)
}
