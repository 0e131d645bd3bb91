package directions

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"ninja/examples/directions/roads"
	"ninja/examples/directions/spoken"
	"ninja/operators"
)

// Bounds of one question.
const (
	maxHeard     = 1 << 10          // bytes of an utterance
	routeTimeout = 15 * time.Second // of looking for a way; 30 ms is usual
	snapMetres   = 1500             // from an address, or the user, to a road
)

// Talk is one conversation: it remembers the question that was asked back. One goroutine uses it.
type Talk struct {
	s       *Service
	from    operators.Position
	pending []Address // what "which city" was asked of
}

// Talk begins a conversation with somebody at the position; nil is where the service's routes begin.
func (s *Service) Talk(position *operators.Position) *Talk {
	t := &Talk{s: s, from: s.from}
	if position != nil {
		t.from = *position
	}
	return t
}

// Answer answers an utterance.
func (t *Talk) Answer(ctx context.Context, heard string) *Answer {
	heard = clean(heard)
	a := &Answer{About: "directions", Lang: "en", Heard: heard, Attribution: attribution()}
	readings := t.s.m.Addresses.Read(heard)
	switch {
	case len(readings) == 0:
		t.unknownStreet(a, heard)
	case len(readings[0].Numbers) == 0:
		t.whichCity(ctx, a, readings[0].City)
	default:
		t.address(ctx, a, readings)
	}
	return a
}

// clean bounds an utterance and takes out what is no text.
func clean(s string) string {
	if len(s) > maxHeard {
		s = s[:maxHeard]
	}
	s = strings.ToValidUTF8(s, " ")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// address answers an utterance that is an address in one way or several: the first reading that exists is meant.
func (t *Talk) address(ctx context.Context, a *Answer, readings []Reading) {
	for _, r := range readings {
		for _, n := range r.Numbers {
			switch found := t.s.m.Addresses.Find(n, r.Street.Key(), r.City.Key()); {
			case len(found) == 1:
				t.found(ctx, a, &found[0])
				return
			case len(found) > 1:
				t.ask(a, found)
				return
			}
		}
	}
	r := readings[0]
	t.unknown(a, AnswerAddress{Number: r.Numbers[0], Street: r.Street.Written, City: r.City.Written})
}

// whichCity answers a city alone, which makes sense after "which city".
func (t *Talk) whichCity(ctx context.Context, a *Answer, city spoken.Name) {
	var found []Address
	for _, x := range t.pending {
		if x.In(city.Key()) {
			found = append(found, x)
		}
	}
	switch {
	case len(found) == 1:
		t.found(ctx, a, &found[0])
	case len(t.pending) > 0:
		t.unknown(a, AnswerAddress{Number: t.pending[0].Number, Street: t.pending[0].Street.Written, City: city.Written})
	default:
		t.unheard(a)
	}
}

// unknownStreet answers what the grammar does not contain: perhaps typed, on a street that the map has no address of.
func (t *Talk) unknownStreet(a *Answer, heard string) {
	words := strings.Fields(strings.ToLower(strings.ReplaceAll(heard, ",", " ")))
	for n := min(len(words)-1, maxUtterance); n > 0; n-- {
		numbers := spoken.ParseNumber(words[:n])
		street := spoken.ParseName(strings.Join(words[n:], " "))
		if len(words) <= maxUtterance && len(numbers) > 0 && street.Spoken != "" {
			t.unknown(a, AnswerAddress{Number: numbers[0], Street: street.Written})
			return
		}
	}
	t.unheard(a)
}

func (t *Talk) unknown(a *Answer, what AnswerAddress) {
	t.pending = nil
	a.Status, a.Addresses = Unknown, []AnswerAddress{what}
	say := "I don't know that address: " + spoken.SayDigits(what.Number) + " " + what.Street
	if what.City != "" {
		say += ", " + what.City
	}
	a.Say = []string{say + "."}
}

// unheard asks again; what was asked before stays open.
func (t *Talk) unheard(a *Answer) {
	a.Status = Unheard
	example := t.s.m.Addresses.all[0]
	a.Say = []string{"I did not understand that.",
		"Please say a house number and a street, as in: " + spoken.SayNumber(example.Number) + " " + example.Street.Written + "."}
}

func (t *Talk) ask(a *Answer, among []Address) {
	t.pending = among
	a.Status = Ambiguous
	var cities []string
	for i := range among {
		a.Addresses = append(a.Addresses, inAnswer(&among[i]))
		if c := among[i].City.Written; c != "" {
			cities = append(cities, c)
		}
	}
	a.Say = []string{capital(spoken.SayNumber(among[0].Number)) + " " + among[0].Street.Written + ".",
		"Which city: " + sayList(cities) + "?"}
}

func inAnswer(x *Address) AnswerAddress {
	lat, lon := degrees(x.At)
	return AnswerAddress{Number: x.Number, Street: x.Street.Written, City: x.City.Written, Inferred: x.Inferred, Lat: lat, Lon: lon}
}

// found answers with the way to an address.
func (t *Talk) found(ctx context.Context, a *Answer, to *Address) {
	t.pending = nil
	a.Status, a.Addresses = Found, []AnswerAddress{inAnswer(to)}
	r, facing, err := t.s.m.route(ctx, t.from, to)
	if err == nil {
		sayRoute(a, to, r, facing)
		return
	}
	why := "I found no way there in time."
	if errors.Is(err, roads.ErrNoRoute) {
		why = "No road on my map leads there from where you are."
	}
	a.Say = []string{capital(to.Say()) + ".", why}
}

// route finds the way from a position to an address, and on which side of the road that lies.
func (m *Map) route(ctx context.Context, from operators.Position, to *Address) (*roads.Route, string, error) {
	ctx, cancel := context.WithTimeout(ctx, routeTimeout)
	defer cancel()
	start, ok := roads.PointAt(from.Lat, from.Lon)
	if !ok {
		return nil, "", roads.ErrNoRoute
	}
	a, ok := m.Roads.Snap(start, snapMetres, "")
	b, ok2 := m.Roads.Snap(to.At, snapMetres, to.Street.Key())
	if !ok || !ok2 {
		return nil, "", roads.ErrNoRoute
	}
	r, err := m.Roads.Route(ctx, a, b)
	if err != nil {
		return nil, "", err
	}
	return r, m.Roads.Facing(r, to.At), nil
}
