package directions

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"ninja/base"
	"ninja/operators"
)

// Component starts the map service on a base node. Its arguments are map, the OpenStreetMap extract, and from, where
// routes begin when a path gives no position (LATITUDE,LONGITUDE).
func Component(_ context.Context, site base.Site) (*base.Service, error) {
	from, err := parsePosition(site.Args["from"])
	if err != nil {
		return nil, err
	}
	s, err := New(Config{Service: site.ID, Map: site.Args["map"], From: from})
	if err != nil {
		return nil, err
	}
	site.Log.Info("the map is loaded", "map", site.Args["map"], "addresses", s.m.Addresses.Len())
	service := &base.Service{
		Kind: Kind, Summary: Summary, Position: &s.from, Operators: s.Operators(),
		Programs: map[string]operators.Factory{Program: s.Factory()},
		Data:     make(map[string][]byte),
	}
	for _, d := range s.Data() {
		service.Data[d.Name] = d.Bytes
	}
	return service, nil
}

func parsePosition(text string) (*operators.Position, error) {
	if text == "" {
		return nil, nil
	}
	lat, lon, ok := strings.Cut(text, ",")
	a, errA := strconv.ParseFloat(lat, 64)
	b, errB := strconv.ParseFloat(lon, 64)
	if !ok || errA != nil || errB != nil {
		return nil, fmt.Errorf("from=%q: want LATITUDE,LONGITUDE in degrees", text)
	}
	return &operators.Position{Lat: a, Lon: b}, nil
}
