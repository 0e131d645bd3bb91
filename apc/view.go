package apc

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"ninja/apc/plan"
	"ninja/ca"
	"ninja/operators"
	"ninja/sds"
)

// thing is a description that was found.
type thing struct {
	sds.Found
	*operators.Description
}

// dynamic reports whether the thing is an operator that a proxy can start. Nobody else may host operators: what a
// service or a unit publishes runs there already and is in a path only when the request names it, so that nobody's data
// goes through a stranger's service because its types fit.
func (t *thing) dynamic() bool {
	return t.Description.Kind == operators.KindOperator && t.Owner.Kind() == ca.KindProxy && t.Node != nil
}

func (t *thing) proxy() bool {
	return t.Description.Kind == operators.KindProxy && t.Owner.Kind() == ca.KindProxy && t.Node != nil
}

// view is what askers with the same rights may see of what paths are made of, and nothing else: whatever is computed of
// it cannot tell of anything hidden. It is a value without clock or network; live guards it.
//
// Changes are noted by the names of the operators and nodes that they touch, so that a catalogue made earlier is brought
// up to date at the cost of what changed.
type view struct {
	things map[string]*thing            // by service id
	kinds  map[string]map[string]*thing // by kind, then service id
	owners map[ca.ID]map[string]*thing
	fixed  map[string]fixedOperator                          // by name in the catalogue
	groups map[string]*group                                 // dynamic operators by name in the catalogue
	names  map[string]string                                 // of groups, by what makes them alike
	links  map[[2]string]plan.Link                           // by regions, in order
	costs  func(operator string, node ca.ID) *operators.Cost // learned; nil: none
	log    []touched
	begun  int // number of the first entry of log
	shape  int // counts changes that no plan.Change can say: links, data and what proxies reach outside
	shelf  map[string]*shelved
	// extensions are catalogues with what stands in for raw addresses.
	extensions map[extension]*plan.Catalogue
	clock      uint64 // counts uses of the shelf
	// learned is how many changes of learned costs are in the log.
	learned int
}

type fixedOperator struct {
	*thing
	spec operators.Spec
}

// group is one dynamic operator: what several proxies publish alike.
type group struct {
	spec operators.Spec
	at   map[string]ca.ID // where, by service id
}

// touched names an operator or a node of the catalogue that may have changed.
type touched struct {
	operator string
	node     ca.ID
}

// Bounds of a view.
const (
	maxLog     = 1 << 16 // touches remembered; a catalogue that is further behind is made anew
	maxShelved = 32      // catalogues kept up to date, fewer when they are large:
	maxInShelf = 100_000 // things in all of them
)

func newView(costs func(string, ca.ID) *operators.Cost) *view {
	if costs == nil {
		costs = func(string, ca.ID) *operators.Cost { return nil }
	}
	return &view{
		things: make(map[string]*thing), kinds: make(map[string]map[string]*thing), owners: make(map[ca.ID]map[string]*thing),
		fixed: make(map[string]fixedOperator), groups: make(map[string]*group), names: make(map[string]string),
		links: make(map[[2]string]plan.Link), costs: costs, shelf: make(map[string]*shelved),
		extensions: make(map[extension]*plan.Catalogue),
	}
}

// put takes in a thing that appeared or changed.
func (v *view) put(t *thing) {
	v.drop(t.ID)
	v.things[t.ID] = t
	index(v.kinds, t.Description.Kind, t)
	index(v.owners, t.Owner, t)
	for _, s := range t.Operators {
		switch {
		case t.dynamic():
			name := v.groupName(&s)
			if v.groups[name] == nil {
				v.groups[name] = &group{spec: s, at: make(map[string]ca.ID)}
			}
			v.groups[name].at[t.ID] = t.Owner
		case t.Node != nil:
			v.fixed[t.fixedName(s)] = fixedOperator{t, s}
		}
	}
	v.touchAll(t)
}

// drop forgets a thing that is gone or hidden now.
func (v *view) drop(id string) {
	t := v.things[id]
	if t == nil {
		return
	}
	delete(v.things, id)
	unindex(v.kinds, t.Description.Kind, id)
	unindex(v.owners, t.Owner, id)
	v.touchAll(t)
	for _, s := range t.Operators {
		if !t.dynamic() {
			delete(v.fixed, t.fixedName(s))
			continue
		}
		key := alike(&s)
		name := v.names[key]
		if g := v.groups[name]; g != nil {
			if delete(g.at, id); len(g.at) == 0 {
				delete(v.groups, name)
				delete(v.names, key)
			}
		}
	}
}

// touchAll notes all that a thing's coming or going changes.
func (v *view) touchAll(t *thing) {
	if len(t.Data) > 0 || t.proxy() && t.Node.External != "" {
		v.shape++
	}
	if t.Node == nil {
		return
	}
	v.touch(touched{node: t.Owner})
	all := map[string]*thing{t.ID: t}
	if t.proxy() { // its operators come and go with it
		all = v.owners[t.Owner]
	}
	for _, o := range all {
		for _, s := range o.Operators {
			if o.dynamic() {
				v.touch(touched{operator: v.names[alike(&s)]})
			} else {
				v.touch(touched{operator: o.fixedName(s)})
			}
		}
	}
}

func (v *view) touch(t touched) {
	if t == (touched{}) {
		return
	}
	if len(v.log) >= maxLog {
		half := len(v.log) / 2
		v.log, v.begun = slices.Clone(v.log[half:]), v.begun+half
	}
	v.log = append(v.log, t)
}

// seen is the number that the next entry of the log will have.
func (v *view) seen() int { return v.begun + len(v.log) }

func index[K comparable](m map[K]map[string]*thing, key K, t *thing) {
	if m[key] == nil {
		m[key] = make(map[string]*thing)
	}
	m[key][t.ID] = t
}

func unindex[K comparable](m map[K]map[string]*thing, key K, id string) {
	if delete(m[key], id); len(m[key]) == 0 {
		delete(m, key)
	}
}

// alike is equal for specs that are the same operator at different places.
func alike(s *operators.Spec) string {
	return fmt.Sprintf("%q %q %q %q %v %q %q", s.Name, s.Program, s.In.String(), s.Out.String(), s.Cost, s.Args, s.Transports)
}

// groupName is a name for a dynamic operator that depends on nothing but what it is, and stays when proxies come and go:
// its own, and as much of a hash as keeps it apart from others in the view.
func (v *view) groupName(s *operators.Spec) string {
	key := alike(s)
	if name, ok := v.names[key]; ok {
		return name
	}
	sum := sha256.Sum256([]byte(key))
	hash := hex.EncodeToString(sum[:])
	for n := 8; ; n += 8 {
		name := s.Name + "~" + hash[:n]
		if _, taken := v.groups[name]; !taken || n == len(hash) {
			v.names[key] = name
			return name
		}
	}
}

// fixedName names an operator of a long-lived service in the catalogue.
func (t *thing) fixedName(s operators.Spec) string { return t.ID + "/" + s.Name }

// nodeThing is the thing that says how an owner's node is reached and what it can carry; nil when nothing visible does.
func (v *view) nodeThing(owner ca.ID) (from *thing) {
	for _, t := range v.owners[owner] {
		switch {
		case t.Node == nil || t.dynamic():
		case from == nil || t.proxy() && !from.proxy() || t.proxy() == from.proxy() && t.ID < from.ID:
			from = t
		}
	}
	return from
}

// node is what an owner is to the catalogue.
func (v *view) node(owner ca.ID) (n plan.Node, active, ok bool) {
	from := v.nodeThing(owner)
	if from == nil {
		return plan.Node{}, false, false
	}
	n = plan.Node{ID: owner, Load: natural(from.Numbers["load"]), Memory: max(from.Node.Memory, 0), Region: from.Node.Region,
		Transports: from.Node.Schemes()}
	if from.proxy() { // the load is told as a share
		n.Cores = natural(from.Node.Cores)
		n.Load *= max(n.Cores, 1)
	}
	return n, from.proxy(), true
}

// natural is a number from outside as a catalogue takes it: at least nothing, at most a million, and a number.
func natural(f float64) float64 {
	if !(f > 0) {
		return 0
	}
	return min(f, 1e6)
}

// operator is what a name means to the catalogue now.
func (v *view) operator(name string) (plan.Operator, bool) {
	if f, ok := v.fixed[name]; ok {
		o := plan.Operator{Name: name, Spec: f.spec, Service: f.ID, Kind: f.Description.Kind, Fixed: true, Data: refs(&f.spec)}
		o.Places = []plan.Place{{Node: f.Owner, Cost: v.costs(name, f.Owner)}}
		estimate(&o)
		return o, true
	}
	g := v.groups[name]
	if g == nil {
		return plan.Operator{}, false
	}
	o := plan.Operator{Name: name, Spec: g.spec, Kind: operators.KindOperator, Data: refs(&g.spec)}
	seen := make(map[ca.ID]bool)
	for _, service := range slices.Sorted(maps.Keys(g.at)) {
		owner := g.at[service]
		if _, active, _ := v.node(owner); !active || seen[owner] {
			continue // its proxy is gone or hidden
		}
		if seen[owner] = true; o.Service == "" {
			o.Service = service
		}
		o.Places = append(o.Places, plan.Place{Node: owner, Cost: v.costs(name, owner)})
	}
	slices.SortFunc(o.Places, func(a, b plan.Place) int { return cmp.Compare(a.Node, b.Node) })
	estimate(&o)
	return o, len(o.Places) > 0
}

// estimate makes of what was measured at an operator's places what the planner expects of them. Nodes measure processing
// alone, but a description also tells of waiting that is in the nature of the operator: for the end of a sentence, say, or
// for the middle of a filter. So the fastest place is taken to be as described, unless it is slower, and the others
// are slower than it by what was measured. Only places in view are compared: hidden ones tell nothing.
func estimate(o *plan.Operator) {
	fastest := operators.Latency(math.MaxInt64)
	for _, p := range o.Places {
		if p.Cost != nil {
			fastest = min(fastest, p.Cost.Latency)
		}
	}
	for i := range o.Places {
		if p := &o.Places[i]; p.Cost != nil {
			cost := *p.Cost
			cost.Latency = max(o.Spec.Cost.Latency, fastest) + cost.Latency - fastest
			p.Cost = &cost
		}
	}
}

// refs are the external data that an operator's arguments name.
func refs(s *operators.Spec) (all []string) {
	for _, a := range s.Args {
		if _, ok := operators.ParseRef(a.Value); ok && !slices.Contains(all, a.Value) {
			all = append(all, a.Value)
		}
	}
	return all
}

// numbers takes in what was refreshed of a thing; what moved too little to matter to a plan is no change.
func (v *view) numbers(id string, n map[string]float64) {
	t := v.things[id]
	if t == nil {
		return
	}
	was, is := natural(t.Numbers["load"]), natural(n["load"])
	if math.Abs(was-is) < loadStep {
		n = maps.Clone(n)
		if n == nil {
			n = make(map[string]float64)
		}
		n["load"] = was
	} else if t.Node != nil {
		v.touch(touched{node: t.Owner})
	}
	changed := *t
	changed.Numbers = n
	v.replace(&changed)
}

// loadStep is the least change of a load, as a share of a node's cores, that makes a new catalogue.
const loadStep = 0.02

// replace puts a thing that differs in its numbers alone in the place of the old one.
func (v *view) replace(t *thing) {
	v.things[t.ID] = t
	v.kinds[t.Description.Kind][t.ID] = t
	v.owners[t.Owner][t.ID] = t
	for _, s := range t.Operators {
		if f, ok := v.fixed[t.fixedName(s)]; ok {
			v.fixed[t.fixedName(s)] = fixedOperator{t, f.spec}
		}
	}
}

// rttNumber begins the names of the round-trip times that proxies publish, in seconds, to a region each.
const rttNumber = "rtt."

// measure works the links between regions out of what proxies say: of each pair the median of all round trips, halved.
// Links that moved by less than a fifth stay. Regions without a proxy are no regions, whatever anyone measures.
func (v *view) measure() {
	regions := make(map[string]bool)
	for _, t := range v.kinds[operators.KindProxy] {
		if t.proxy() {
			regions[t.Node.Region] = true
		}
	}
	seen := make(map[[2]string][]float64)
	for _, t := range v.kinds[operators.KindProxy] {
		if !t.proxy() {
			continue
		}
		for name, rtt := range t.Numbers {
			to, ok := strings.CutPrefix(name, rttNumber)
			if !ok || !regions[to] || !(rtt > 0) || rtt > time.Minute.Seconds() {
				continue
			}
			pair := [2]string{min(t.Node.Region, to), max(t.Node.Region, to)}
			seen[pair] = append(seen[pair], rtt)
		}
	}
	moved := false
	for pair := range v.links {
		if len(seen[pair]) == 0 {
			delete(v.links, pair)
			moved = true
		}
	}
	for pair, all := range seen {
		slices.Sort(all)
		now := time.Duration(all[len(all)/2] / 2 * float64(time.Second))
		was, known := v.links[pair]
		if d := (now - was.Latency).Abs(); !known || 5*d > was.Latency && d > 100*time.Microsecond {
			v.links[pair] = plan.Link{From: pair[0], To: pair[1], Latency: now}
			moved = true
		}
	}
	if moved {
		v.shape++
	}
}
