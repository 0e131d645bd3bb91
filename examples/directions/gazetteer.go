package directions

import (
	"cmp"
	"slices"
	"strings"

	"ninja/examples/directions/roads"
	"ninja/examples/directions/spoken"
)

// Address is a house that can be found.
type Address struct {
	Number int
	Street spoken.Name
	// City is where it is; the zero Name means that neither the map nor its surroundings say.
	City spoken.Name
	// Inferred is set when the map does not state the city and it is that of the nearest address, or settlement.
	Inferred bool
	At       roads.Point

	aliases []string // keys of other names that the map gives the same city
}

// In reports whether the address is in the city of that key; the empty key is everywhere.
func (a *Address) In(city string) bool {
	return city == "" || a.City.Key() == city || slices.Contains(a.aliases, city)
}

// Say is how the address is said: "six fifteen South Main Street, Newark".
func (a *Address) Say() string {
	s := spoken.SayNumber(a.Number) + " " + a.Street.Written
	if a.City.Written != "" {
		s += ", " + a.City.Written
	}
	return s
}

// Gazetteer finds addresses by what people say. It is read only.
type Gazetteer struct {
	all     []Address // in order of street, number, city
	streets []spoken.Name
	cities  []spoken.Name
	byPlace map[numbered][]int32 // in all
	street  map[string]int       // key -> in streets
	city    map[string]int       // key -> in cities
}

type numbered struct {
	street string
	number int
}

const (
	samePlace = 300  // metres within which equal numbers on streets of one name are one house
	nearCity  = 3000 // how far another address may be to lend its city
	nearPlace = 15000
)

func newGazetteer(all []Address, places []place) *Gazetteer {
	inferCities(all, places)
	slices.SortStableFunc(all, func(a, b Address) int {
		return cmp.Or(cmp.Compare(a.Street.Key(), b.Street.Key()), cmp.Compare(a.Number, b.Number))
	})
	g := &Gazetteer{byPlace: make(map[numbered][]int32), street: make(map[string]int), city: make(map[string]int)}
	for _, a := range all {
		g.add(a)
	}
	slices.SortFunc(g.cities, byWords)
	for i, c := range g.cities {
		g.city[c.Key()] = i
	}
	return g
}

func byWords(a, b spoken.Name) int { return cmp.Compare(a.Spoken, b.Spoken) }

func (g *Gazetteer) add(a Address) {
	key := numbered{a.Street.Key(), a.Number}
	for _, i := range g.byPlace[key] {
		b := &g.all[i]
		same := a.City.Key() == b.City.Key()
		if !same && roads.Metres(a.At, b.At) > samePlace {
			continue
		}
		if b.Inferred && !a.Inferred {
			b.City, b.Inferred = a.City, false
		} else if !same && !a.Inferred {
			b.aliases = append(b.aliases, a.City.Key())
		}
		g.note(a.City)
		return
	}
	if _, ok := g.street[key.street]; !ok {
		g.street[key.street] = len(g.streets)
		g.streets = append(g.streets, a.Street)
	}
	g.note(a.City)
	g.byPlace[key] = append(g.byPlace[key], int32(len(g.all)))
	g.all = append(g.all, a)
}

// note keeps the name of a city; of two spellings the first stays.
func (g *Gazetteer) note(city spoken.Name) {
	key := city.Key()
	if _, ok := g.city[key]; !ok && key != "" {
		g.city[key] = 0
		g.cities = append(g.cities, city)
	}
}

// inferCities gives addresses without a city that of the nearest address which states one, or else the nearest
// settlement.
func inferCities(all []Address, places []place) {
	stated, settled := newCells(nearCity), newCells(nearPlace)
	for i := range all {
		if all[i].City.Spoken != "" {
			stated.put(all[i].At, int32(i))
		}
	}
	for i := range places {
		settled.put(places[i].at, int32(i))
	}
	for i := range all {
		a := &all[i]
		if a.City.Spoken != "" {
			continue
		}
		a.Inferred = true
		if j, ok := stated.nearest(a.At); ok {
			a.City = all[j].City
		} else if j, ok := settled.nearest(a.At); ok {
			a.City = places[j].name
		} else {
			a.Inferred = false
		}
	}
}

// cells finds what is nearest within a distance: squares of at least that size, of which nine are searched.
type cells struct {
	within float64
	size   int64
	in     map[[2]int64][]cellItem
}

type cellItem struct {
	at roads.Point
	i  int32
}

func newCells(metres float64) *cells {
	return &cells{metres, int64(metres * 90 * 2), make(map[[2]int64][]cellItem)} // 90 units a metre; double for longitude
}

func (c *cells) of(p roads.Point) [2]int64 {
	return [2]int64{(int64(p.Lat) + 1e9) / c.size, (int64(p.Lon) + 2e9) / c.size}
}

func (c *cells) put(p roads.Point, i int32) {
	k := c.of(p)
	c.in[k] = append(c.in[k], cellItem{p, i})
}

func (c *cells) nearest(p roads.Point) (best int32, ok bool) {
	k, least := c.of(p), c.within
	for y := k[0] - 1; y <= k[0]+1; y++ {
		for x := k[1] - 1; x <= k[1]+1; x++ {
			for _, it := range c.in[[2]int64{y, x}] {
				if m := roads.Metres(p, it.at); m <= least {
					best, least, ok = it.i, m, true
				}
			}
		}
	}
	return best, ok
}

// Len is the number of addresses.
func (g *Gazetteer) Len() int { return len(g.all) }

// Streets lists the streets that have addresses, in order of their keys.
func (g *Gazetteer) Streets() []spoken.Name { return g.streets }

// Cities lists the cities that addresses are in, in order of their spoken names.
func (g *Gazetteer) Cities() []spoken.Name { return g.cities }

// Find returns the addresses with the number on a street of that key in a city of that key (empty: any), one a city.
func (g *Gazetteer) Find(number int, street, city string) []Address {
	var found []Address
	for _, i := range g.byPlace[numbered{street, number}] {
		if a := &g.all[i]; a.In(city) {
			found = append(found, *a)
		}
	}
	return found
}

// Reading is one way to understand an utterance.
type Reading struct {
	// Numbers are what the number's words may mean, the likeliest first; empty when only a city was said.
	Numbers []int
	// Street and City are known names; Street is zero when only a city was said, City when none was.
	Street, City spoken.Name
}

// maxUtterance bounds the words that are looked at.
const maxUtterance = 24

// Read understands the words of an utterance in every way that the grammar allows: a number, a street and perhaps a
// city, or a city alone. Typed input may be written ("615 S Main St, Newark").
func (g *Gazetteer) Read(text string) []Reading {
	text, after, comma := strings.Cut(text, ",")
	if comma {
		text += " in " + after
	}
	words := strings.Fields(strings.ToLower(text))
	if len(words) == 0 || len(words) > maxUtterance {
		return nil
	}
	if c, ok := g.knownCity(words); ok {
		return []Reading{{City: c}}
	}
	var all []Reading
	for n := 1; n < len(words) && spoken.IsNumberWord(words[n-1]); n++ {
		numbers := spoken.ParseNumber(words[:n])
		if len(numbers) == 0 {
			continue
		}
		for end := len(words); end > n; end-- {
			street, ok := g.knownStreet(words[n:end])
			if !ok {
				continue
			}
			city, ok := g.knownCity(words[end:])
			if ok || end == len(words) {
				all = append(all, Reading{numbers, street, city})
			}
		}
	}
	return all
}

func (g *Gazetteer) knownStreet(words []string) (spoken.Name, bool) {
	text := strings.Join(words, " ")
	for _, key := range []string{spoken.Key(text), spoken.ParseName(text).Key()} {
		if i, ok := g.street[key]; ok {
			return g.streets[i], true
		}
	}
	return spoken.Name{}, false
}

func (g *Gazetteer) knownCity(words []string) (spoken.Name, bool) {
	if len(words) > 1 && words[0] == "in" {
		words = words[1:]
	}
	text := strings.Join(words, " ")
	for _, key := range []string{spoken.Key(text), spoken.ParseName(text).Key()} {
		if i, ok := g.city[key]; ok && key != "" {
			return g.cities[i], true
		}
	}
	return spoken.Name{}, false
}
