package directions

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ninja/examples/directions/pbf"
	"ninja/examples/directions/roads"
	"ninja/examples/directions/spoken"
)

// Map is what is known of a piece of the world: its roads and its addresses. It is read only and may be shared.
type Map struct {
	Roads     *roads.Graph
	Addresses *Gazetteer
	// Skipped counts the addresses of the file that nobody could say or find: without a street, with a number that is
	// none.
	Skipped int
}

// maxAddresses bounds the addresses of a map, and the points of the buildings that have them.
const (
	maxAddresses      = 5_000_000
	maxBuildingPoints = 100_000_000
)

// LoadMap reads an OpenStreetMap extract in PBF form. It reads twice, first ways and then the nodes that they need, so
// that the memory it takes goes with the roads and addresses of the map and not with all that is on it.
func LoadMap(file io.ReadSeeker) (*Map, error) {
	l := loader{buildings: make(map[int64][]int32)}
	if err := pbf.Read(file, pbf.Visitor{Way: l.way}); err != nil {
		return nil, fmt.Errorf("read the map's roads: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the map again: %w", err)
	}
	l.roads.Nodes()
	if err := pbf.Read(file, pbf.Visitor{Node: l.node}); err != nil {
		return nil, fmt.Errorf("read the map's nodes: %w", err)
	}
	graph, err := l.roads.Graph()
	if err != nil {
		return nil, fmt.Errorf("build the road network: %w", err)
	}
	return &Map{Roads: graph, Addresses: newGazetteer(l.found(), l.places), Skipped: l.skipped}, nil
}

type loader struct {
	roads     roads.Builder
	addresses []tagged
	buildings map[int64][]int32 // node id -> addresses whose outline it is part of
	points    int
	places    []place
	skipped   int
}

// tagged is an address as it stands in the file; its place is the mean of its points.
type tagged struct {
	numbers      []int
	street       spoken.Name
	city         spoken.Name
	lat, lon, of int64
}

// place is a settlement.
type place struct {
	name spoken.Name
	at   roads.Point
}

func (l *loader) way(w *pbf.Way) error {
	if err := l.roads.Way(w); err != nil {
		return err
	}
	ok, err := l.address(w.Tags)
	if !ok || err != nil {
		return err
	}
	refs := w.Refs
	if len(refs) > 1 && refs[0] == refs[len(refs)-1] {
		refs = refs[1:]
	}
	if l.points += len(refs); l.points > maxBuildingPoints {
		return fmt.Errorf("the map's addressed buildings have more than %d points: cut a smaller extract", maxBuildingPoints)
	}
	for _, id := range refs {
		l.buildings[id] = append(l.buildings[id], int32(len(l.addresses)-1))
	}
	return nil
}

func (l *loader) node(n *pbf.Node) error {
	if err := l.roads.Node(n); err != nil {
		return err
	}
	for _, i := range l.buildings[n.ID] {
		l.addresses[i].add(n)
	}
	if len(n.Tags) == 0 {
		return nil
	}
	switch n.Tags.Get("place") {
	case "city", "town", "village":
		if name := spoken.ParseName(n.Tags.Get("name")); name.Spoken != "" {
			l.places = append(l.places, place{name, roads.Point{Lat: n.Lat, Lon: n.Lon}})
		}
	}
	ok, err := l.address(n.Tags)
	if ok {
		l.addresses[len(l.addresses)-1].add(n)
	}
	return err
}

func (t *tagged) add(n *pbf.Node) {
	t.lat, t.lon, t.of = t.lat+int64(n.Lat), t.lon+int64(n.Lon), t.of+1
}

// address takes the address of a node or building when it has one.
func (l *loader) address(tags pbf.Tags) (bool, error) {
	number, street := tags.Get("addr:housenumber"), tags.Get("addr:street")
	if number == "" || street == "" {
		return false, nil
	}
	t := tagged{numbers: parseNumbers(number), city: parseCity(tags.Get("addr:city"))}
	t.street = parseStreet(street, number, t.city)
	if len(t.numbers) == 0 || t.street.Spoken == "" {
		l.skipped++
		return false, nil
	}
	if len(l.addresses) >= maxAddresses {
		return false, fmt.Errorf("the map has more than %d addresses: cut a smaller extract", maxAddresses)
	}
	l.addresses = append(l.addresses, t)
	return true, nil
}

// found are the addresses whose place is known.
func (l *loader) found() []Address {
	var all []Address
	for _, t := range l.addresses {
		if t.of == 0 {
			l.skipped++ // its building lies outside the extract
			continue
		}
		for _, n := range t.numbers {
			all = append(all, Address{Number: n, Street: t.street, City: t.city,
				At: roads.Point{Lat: int32(t.lat / t.of), Lon: int32(t.lon / t.of)}})
		}
	}
	return all
}

var (
	unitSuffix  = regexp.MustCompile(`(?i)\s*(\(.*|#.*|,?\s*(suite|unit|ste|apt)\b.*)$`)
	listNumbers = regexp.MustCompile(`^\d{1,5}(\s*[-–;,/&]\s*\d{1,5})*$`)
	oneNumber   = regexp.MustCompile(`\d+`)
)

// parseNumbers reads a house number: "615", "704-706" (both ends), "314 (Suite 302)". Numbers with letters are not
// taken: 792A is not 792.
func parseNumbers(s string) []int {
	s = unitSuffix.ReplaceAllString(strings.TrimSpace(s), "")
	if !listNumbers.MatchString(s) {
		return nil
	}
	var all []int
	for _, d := range oneNumber.FindAllString(s, 8) {
		if n, err := strconv.Atoi(d); err == nil && n >= 1 && n <= spoken.MaxNumber && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

// parseCity reads the name of a city: "City of Seaford" is Seaford, "Wilmington, DE" Wilmington.
func parseCity(s string) spoken.Name {
	n := spoken.ParseName(s)
	for _, prefix := range []string{"city of ", "town of ", "village of "} {
		if len(n.Spoken) > len(prefix) && strings.HasPrefix(n.Spoken, prefix) {
			return spoken.Name{Written: n.Written[len(prefix):], Spoken: n.Spoken[len(prefix):]}
		}
	}
	return n
}

// parseStreet reads the name of a street and mends what people put there besides: the house number before it, the city
// behind it.
func parseStreet(s, number string, city spoken.Name) spoken.Name {
	s = strings.TrimPrefix(s, number+" ")
	if strings.Trim(s, "0123456789 ") == "" {
		return spoken.Name{}
	}
	n := spoken.ParseName(s)
	if city.Spoken == "" {
		return n
	}
	if said, ok := strings.CutSuffix(n.Spoken, " "+city.Spoken); ok {
		if words := strings.Fields(said); spoken.IsStreetKind(words[len(words)-1]) {
			return spoken.ParseName(n.Written[:max(0, len(n.Written)-len(city.Written))])
		}
	}
	return n
}
