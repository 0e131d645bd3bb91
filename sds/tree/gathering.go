package tree

import "ninja/sds/route"

// gathering puts the answers of branches together at the first server, and tells what is then known to be wanted.
type gathering struct {
	out  teller
	want route.Want
	all  *route.Gather
	size int    // bytes that wait for the end
	id   []byte // scratch
}

// tell takes what was found.
func (g *gathering) tell(m *answer, wait bool) error {
	if !m.gathered { // it may be told again when there was no room
		g.gather(m)
	}
	if m.last && g.want == route.Best {
		return g.tellAll(m, wait)
	}
	if !m.last && m.empty() {
		return nil
	}
	return g.out.tell(m, wait)
}

// gather keeps what an answer brings, and leaves in it what can be told at once.
func (g *gathering) gather(m *answer) {
	news := m.hits[:0]
	for _, h := range m.hits {
		s, err := parseSighted(h)
		if err != nil {
			continue // the client could not read it either
		}
		id := append(append(append(g.id[:0], s.owner...), '#'), s.name...)
		g.id = id
		switch fresh := g.all.Add(route.Match{ID: string(id), Version: s.version, Item: h, Place: s.place}); {
		case fresh && g.want == route.Best:
			g.size += len(h)
		case fresh:
			news = append(news, h)
		}
	}
	m.hits, m.gathered = news, true
}

// heavy reports whether what waits for the end is more than one frame.
func (g *gathering) heavy() bool { return g.size > answerSize }

// tellAll tells what had to wait for all, and the last answer.
func (g *gathering) tellAll(last *answer, wait bool) error {
	m, size := &answer{}, 0
	for _, x := range g.all.Result() {
		h := x.Item.([]byte)
		if size += len(h); size > answerSize {
			if err := g.out.tell(m, wait); err != nil {
				return err
			}
			m, size = &answer{}, len(h)
		}
		m.hits = append(m.hits, h)
	}
	if len(m.hits) > 0 && size+last.room() > answerSize {
		if err := g.out.tell(m, wait); err != nil {
			return err
		}
		m.hits = nil
	}
	last.hits = m.hits
	return g.out.tell(last, wait)
}
