// Package directions is a map service: it hears an address and answers with driving directions to it, in structure and
// in sentences to speak. It is written on Ninja's public packages alone and shows what a service of one's own consists
// of: something that answers, its XML description, and, because it is spoken to, the grammar of what it understands.
//
// The map is an OpenStreetMap extract, read once into flat arrays; roads, addresses and grammar are made of it. All that
// is answered carries the attribution that OpenStreetMap's licence asks for.
package directions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"ninja/connectors"
	"ninja/examples/directions/roads"
	"ninja/operators"
)

// Words that the service is found by.
const (
	// Kind is the kind of the service in its description.
	Kind = "map-directions"
	// Program is the key of Factory in a registry.
	Program = "directions"
	// Summary is what the service is, in a line.
	Summary = "Driving directions to a street address"
)

// Config says what the service is made of.
type Config struct {
	// Service is the id under which the service is published, OWNER-ID#NAME; types refer to the grammar by it. It must
	// be set.
	Service string
	// Map is the file of the OpenStreetMap extract (.osm.pbf). It must be set, or Loaded.
	Map string
	// Loaded is a map that is loaded already; nil reads Map.
	Loaded *Map
	// From is where routes begin when a path gives no position; nil is the middle of the map's addresses.
	From *operators.Position
}

// Service answers for one map. It is read only once made and may serve any number of paths.
type Service struct {
	service string
	m       *Map
	from    operators.Position
	grammar []byte
	hash    string
}

// New reads the map and prepares the service. It takes as long as reading the map: half a second for a small state.
func New(cfg Config) (*Service, error) {
	if cfg.Service == "" {
		return nil, errors.New("the map service wants the id that it is published under (Service)")
	}
	m := cfg.Loaded
	if m == nil {
		var err error
		if m, err = openMap(cfg.Map); err != nil {
			return nil, err
		}
	}
	if m.Addresses.Len() == 0 {
		return nil, fmt.Errorf("the map %s has no addresses (addr:housenumber with addr:street): take another extract", cfg.Map)
	}
	s := &Service{service: cfg.Service, m: m, grammar: m.Addresses.Grammar()}
	sum := sha256.Sum256(s.grammar)
	s.hash = hex.EncodeToString(sum[:])
	if cfg.From != nil {
		s.from = *cfg.From
	} else {
		s.from = m.Addresses.middle()
	}
	return s, nil
}

func openMap(path string) (*Map, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the map: %w", err)
	}
	defer f.Close()
	m, err := LoadMap(f)
	if err != nil {
		return nil, fmt.Errorf("load the map %s: %w", path, err)
	}
	return m, nil
}

// Map is the map that the service answers for.
func (s *Service) Map() *Map { return s.m }

// From is where routes begin when a path gives no position.
func (s *Service) From() operators.Position { return s.from }

// middle is the median of the addresses' places.
func (g *Gazetteer) middle() operators.Position {
	var lats, lons []int32
	for i := range g.all {
		lats, lons = append(lats, g.all[i].At.Lat), append(lons, g.all[i].At.Lon)
	}
	slices.Sort(lats)
	slices.Sort(lons)
	lat, lon := degrees(roads.Point{Lat: lats[len(lats)/2], Lon: lons[len(lons)/2]})
	return operators.Position{Lat: lat, Lon: lon}
}

// Data is a piece of external data that the service serves.
type Data struct {
	// Name is its name in the description; Ref how types refer to it.
	Name  string
	Ref   operators.Ref
	Bytes []byte
}

// Data lists what the publisher must serve: the grammar.
func (s *Service) Data() []Data {
	return []Data{{"grammar", operators.Ref{Service: s.service, SHA256: s.hash}, s.grammar}}
}

// Operators are the operators of the service's description.
func (s *Service) Operators() []operators.Spec {
	ref := operators.Ref{Service: s.service, SHA256: s.hash}
	return []operators.Spec{{
		Name: "directions", Program: Program, Summary: Summary,
		In:   operators.MustPattern("text/plain;about=address;grammar=" + ref.String() + ";lang=en"),
		Out:  operators.MustPattern("application/xml;about=directions;form=answer;lang=en"),
		Cost: operators.Cost{CPU: 0.02, Latency: operators.Latency(100 * time.Millisecond), Memory: 8 << 20},
	}}
}

// Description is the service's description but for its node, which the publisher adds; name is the name within its
// owner.
func (s *Service) Description(name string) *operators.Description {
	d := &operators.Description{Kind: Kind, Name: name, Summary: Summary, Operators: s.Operators(), Position: &s.from}
	for _, x := range s.Data() {
		d.Data = append(d.Data, operators.Data{Name: x.Name, SHA256: x.Ref.SHA256, Size: int64(len(x.Bytes))})
	}
	return d
}

// Factory makes the operator of one path: an utterance in, an answer out.
func (s *Service) Factory() operators.Factory {
	return func(_ context.Context, env operators.Env) (operators.Operator, error) {
		talk := s.Talk(env.Position)
		return operators.Func(func(ctx context.Context, in connectors.Reader, out connectors.Writer) error {
			for {
				a, err := in.Read(ctx)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				answer := talk.Answer(ctx, string(a.Payload))
				text, err := answer.Marshal()
				if err != nil {
					return fmt.Errorf("write the answer: %w", err)
				}
				if env.Note != nil {
					env.Note("answer", answer.Line())
				}
				if err := out.Write(ctx, connectors.ADU{Payload: text, Mark: connectors.EndOfDocument}); err != nil {
					return err
				}
			}
		}), nil
	}
}
