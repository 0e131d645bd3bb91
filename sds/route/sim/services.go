package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"ninja/sds/index"
	"ninja/sds/summary"
)

// service is one of the simulated services. What it says is made from its numbers, so that a million of them fit.
type service struct {
	name   uint64
	kind   uint8
	maker  uint8
	floor  uint8
	colour bool
	speed  float32 // pages a minute or whatever it does
	born   int32   // the period since which it is what it is
}

// How many values there are; the first of them are the most frequent.
const (
	kindsMost  = 40
	makersMost = 150
	floorsMost = 20
)

// world draws services and queries. Values are skewed as in real catalogues: the n-th is 1/n^0.7 as frequent.
type world struct {
	*rand.Rand
	kinds, makers []float64 // cumulative
	names         uint64
}

func newWorld(seed uint64) *world {
	return &world{Rand: rand.New(rand.NewPCG(seed, 0x5d5)), kinds: skewed(kindsMost), makers: skewed(makersMost)}
}

func skewed(n int) []float64 {
	out := make([]float64, n)
	sum := 0.0
	for i := range out {
		sum += math.Pow(float64(i+1), -0.7)
		out[i] = sum
	}
	return out
}

func (w *world) pick(cumulative []float64) int {
	x := w.Float64() * cumulative[len(cumulative)-1]
	for i, c := range cumulative {
		if x < c {
			return i
		}
	}
	return len(cumulative) - 1
}

func (w *world) service(period int) service {
	w.names++
	return service{
		name: w.names, kind: uint8(w.pick(w.kinds)), maker: uint8(w.pick(w.makers)), floor: uint8(w.IntN(floorsMost)),
		colour: w.IntN(2) == 0, speed: float32(math.Exp(w.NormFloat64()*0.8 + 3)), born: int32(period),
	}
}

// alone is how many terms a service tells that no other one tells: its name.
const alone = 1

// facts are what a description of the service at a site would say.
func (s *service) facts(site int) summary.Facts {
	var told []index.Fact
	say := func(tag, value string) {
		told = append(told, index.Fact{Tag: tag, Kind: index.Present}, index.Fact{Tag: tag, Kind: index.Text, Text: value})
	}
	say("@kind", kindName(int(s.kind)))
	say("@maker", makerName(int(s.maker)))
	say("@floor", strconv.Itoa(int(s.floor)))
	say("@colour", strconv.FormatBool(s.colour))
	say("@site", siteName(site))
	say("@name", "n"+strconv.FormatUint(s.name, 36))
	say("speed", strconv.FormatFloat(float64(s.speed), 'f', 2, 64))
	told = append(told, index.Fact{Tag: "speed", Kind: index.Numeric, Number: float64(s.speed)})
	return summary.Make(told)
}

func kindName(i int) string  { return "kind-" + strconv.Itoa(i) }
func makerName(i int) string { return "maker-" + strconv.Itoa(i) }
func siteName(i int) string  { return "site-" + strconv.Itoa(i) }

// query is what is looked for; -1 and 0 ask for nothing.
type query struct {
	kind, maker, floor, site int
	name                     uint64
	from, to                 float32
}

func (q query) String() string {
	type plain query // without this method
	return fmt.Sprintf("%+v", plain(q))
}

// query draws one of the mix: single tags, conjunctions of two and three, ranges.
func (w *world) query(servers int, known func() service) query {
	q := query{kind: -1, maker: -1, floor: -1, site: -1}
	switch w.IntN(10) {
	case 0: // one tag
		q.kind = w.pick(w.kinds)
	case 1: // one service
		q.name = known().name
		if w.IntN(4) == 0 {
			q.name = 1 << 60 // nobody's
		}
	case 2, 3:
		q.kind, q.maker = w.pick(w.kinds), w.pick(w.makers)
	case 4, 5, 6:
		q.kind, q.maker, q.floor = w.pick(w.kinds), w.pick(w.makers), w.IntN(floorsMost)
	case 7:
		q.kind, q.site = w.pick(w.kinds), w.IntN(servers)
	case 8: // a range
		q.kind, q.maker = w.pick(w.kinds), w.pick(w.makers)
		q.from = float32(math.Exp(w.NormFloat64()*0.8 + 3))
		q.to = q.from * 2
	case 9: // an open range
		q.kind, q.floor = w.pick(w.kinds), w.IntN(floorsMost)
		q.from, q.to = float32(math.Exp(w.NormFloat64()*0.3+4.5)), math.MaxFloat32
	}
	return q
}

// conditions is how many there are.
func (q query) conditions() (n int) {
	for _, asked := range []bool{q.kind >= 0, q.maker >= 0, q.floor >= 0, q.site >= 0, q.name != 0, q.to != 0} {
		if asked {
			n++
		}
	}
	return n
}

// matches reports whether a service at a site is what is looked for.
func (q query) matches(s *service, site int) bool {
	return (q.kind < 0 || int(s.kind) == q.kind) && (q.maker < 0 || int(s.maker) == q.maker) && (q.floor < 0 || int(s.floor) == q.floor) &&
		(q.site < 0 || site == q.site) && (q.name == 0 || s.name == q.name) && (q.to == 0 || s.speed >= q.from && s.speed <= q.to)
}

// question is the query as servers route it.
func (q query) question() *summary.Question {
	var all []index.Need
	text := func(tag, value string) {
		all = append(all, index.Need{Kind: index.Text, Tag: tag, Text: value})
	}
	if q.kind >= 0 {
		text("@kind", kindName(q.kind))
	}
	if q.maker >= 0 {
		text("@maker", makerName(q.maker))
	}
	if q.floor >= 0 {
		text("@floor", strconv.Itoa(q.floor))
	}
	if q.site >= 0 {
		text("@site", siteName(q.site))
	}
	if q.name != 0 {
		text("@name", "n"+strconv.FormatUint(q.name, 36))
	}
	if q.to != 0 {
		all = append(all, index.Need{Kind: index.Numeric, Tag: "speed", From: float64(q.from), To: float64(q.to)})
	}
	return summary.Ask(index.Need{All: all})
}
