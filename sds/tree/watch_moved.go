package tree

import "maps"

// departed takes a standing question from neighbours that are neighbours no more, and returns the servers that told something
// through them, by hierarchy. One that is only down is a neighbour still.
func (w *standing) departed(who []*neighbour, lost map[place]map[string]bool) map[string]map[string]bool {
	there := make(map[place]bool, len(who))
	for _, nb := range who {
		there[place{nb.id, nb.hierarchy}] = true
	}
	out := make(map[string]map[string]bool)
	note := func(hierarchy string, servers map[string]bool) {
		if out[hierarchy] == nil {
			out[hierarchy] = make(map[string]bool)
		}
		maps.Copy(out[hierarchy], servers)
	}
	for at, p := range w.placed {
		if !there[at] {
			p.cancel() // its goroutine ends by itself
			delete(w.placed, at)
			note(at.hierarchy, p.tellers())
		}
	}
	for at, servers := range lost {
		if !there[at] {
			delete(lost, at)
			note(at.hierarchy, servers)
		}
	}
	return out
}
