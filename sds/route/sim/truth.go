package sim

// place is where a service is.
type place struct{ node, slot int32 }

// truth knows what is where, with no help of summaries: it is what answers are held against. Services are listed by their
// kind with each of maker, floor and server, and by name; a service that comes or goes changes its own entries alone.
type truth struct {
	nodes                 []*node
	byMaker, byFloor      [][]place // kind*makersMost+maker, kind*floorsMost+floor
	byNode                [][]place // kind*len(nodes)+node
	names                 map[uint64]place
	atMaker, atFloor, atN [][]int32 // where each server's services stand in those lists
}

func newTruth(nodes []*node, services int) *truth {
	t := &truth{
		nodes: nodes, byMaker: make([][]place, kindsMost*makersMost), byFloor: make([][]place, kindsMost*floorsMost),
		byNode: make([][]place, kindsMost*len(nodes)), names: make(map[uint64]place, services*len(nodes)),
	}
	for range nodes {
		t.atMaker = append(t.atMaker, make([]int32, services))
		t.atFloor = append(t.atFloor, make([]int32, services))
		t.atN = append(t.atN, make([]int32, services))
	}
	for i, n := range nodes {
		for j := range n.services {
			t.add(place{int32(i), int32(j)})
		}
	}
	return t
}

func (t *truth) service(p place) *service { return &t.nodes[p.node].services[p.slot] }

// lists calls f with the lists that a service stands in, and where their entries' positions are kept.
func (t *truth) lists(p place, f func(list *[]place, at [][]int32)) {
	s := t.service(p)
	f(&t.byMaker[int(s.kind)*makersMost+int(s.maker)], t.atMaker)
	f(&t.byFloor[int(s.kind)*floorsMost+int(s.floor)], t.atFloor)
	f(&t.byNode[int(s.kind)*len(t.nodes)+int(p.node)], t.atN)
}

func (t *truth) add(p place) {
	t.names[t.service(p).name] = p
	t.lists(p, func(list *[]place, at [][]int32) {
		at[p.node][p.slot] = int32(len(*list))
		*list = append(*list, p)
	})
}

func (t *truth) remove(p place) {
	delete(t.names, t.service(p).name)
	t.lists(p, func(list *[]place, at [][]int32) {
		hole, last := at[p.node][p.slot], (*list)[len(*list)-1]
		(*list)[hole], at[last.node][last.slot] = last, hole
		*list = (*list)[:len(*list)-1]
	})
}

// count says how many services match at each server.
func (t *truth) count(q query, match []int32) (total int) {
	if q.kind >= 0 && q.maker < 0 && q.floor < 0 && q.site < 0 && q.name == 0 && q.to == 0 {
		for i := range match { // all of a kind
			match[i] = int32(len(t.byNode[q.kind*len(t.nodes)+i]))
			total += int(match[i])
		}
		return total
	}
	clear(match)
	t.each(q, -1, func(p place) {
		match[p.node]++
		total++
	})
	return total
}

// each calls f with the services that match, at one server or, with -1, at all: those of the shortest list that has them
// are looked at.
func (t *truth) each(q query, at int, f func(place)) {
	if at < 0 {
		at = q.site
	}
	var list []place
	switch {
	case q.name != 0:
		p, ok := t.names[q.name]
		if ok {
			list = []place{p}
		}
	case at >= 0:
		list = t.byNode[q.kind*len(t.nodes)+at]
	case q.maker >= 0:
		list = t.byMaker[q.kind*makersMost+q.maker]
	default:
		list = t.byFloor[q.kind*floorsMost+q.floor]
	}
	for _, p := range list {
		if q.matches(t.service(p), int(p.node)) && (at < 0 || int(p.node) == at) {
			f(p)
		}
	}
}
