package timeofday

import (
	"context"

	"ninja/base"
	"ninja/operators"
)

// Component starts the service on a base node. Its argument is zone, the time zone of "here", such as America/New_York;
// without one it is UTC.
func Component(_ context.Context, site base.Site) (*base.Service, error) {
	s, err := New(Config{Service: site.ID, Now: site.World.Now, Zone: site.Args["zone"]})
	if err != nil {
		return nil, err
	}
	service := &base.Service{
		Kind: Kind, Summary: Summary, Operators: s.Operators(),
		Programs: map[string]operators.Factory{Program: s.Factory()},
		Data:     make(map[string][]byte),
	}
	for _, d := range s.Data() {
		service.Data[d.Name] = d.Bytes
	}
	return service, nil
}
