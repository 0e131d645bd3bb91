package directions

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"ninja/examples/directions/roads"
	"ninja/examples/directions/spoken"
)

const (
	metresPerMile = 1609.344
	metresPerFoot = 0.3048
)

// sayDistance rounds a distance as a person would and says it: "fifty feet", "a quarter mile", "two and a half miles".
func sayDistance(metres float64) string {
	feet, miles := metres/metresPerFoot, metres/metresPerMile
	switch {
	case feet < 95:
		return spoken.Cardinal(max(10, round(feet, 10))) + " feet"
	case feet < 475:
		return spoken.Cardinal(round(feet, 50)) + " feet"
	case feet < 950:
		return spoken.Cardinal(round(feet, 100)) + " feet"
	case miles < 0.95:
		return sayPart(miles)
	case miles < 10:
		step := 4
		if miles >= 3 {
			step = 2
		}
		n := int(math.Round(miles * float64(step)))
		return sayMiles(n/step, (n%step)*4/step)
	}
	return spoken.Cardinal(min(int(math.Round(miles)), spoken.MaxNumber)) + " miles"
}

func round(v float64, to int) int { return int(math.Round(v/float64(to))) * to }

// sayPart says a part of a mile, from 0.18.
func sayPart(miles float64) string {
	switch {
	case miles >= 0.225 && miles < 0.275:
		return "a quarter mile"
	case miles >= 0.45 && miles < 0.55:
		return "half a mile"
	case miles >= 0.725 && miles < 0.775:
		return "three quarters of a mile"
	}
	return spoken.Cardinal(int(math.Round(miles*10))) + " tenths of a mile"
}

func sayMiles(whole, quarters int) string {
	part := []string{"", " and a quarter", " and a half", " and three quarters"}[quarters]
	if whole == 1 && quarters == 0 {
		return "one mile"
	}
	return spoken.Cardinal(whole) + part + " miles"
}

// sentence is what a driver is told at a step; arrival is what is said at the end.
func sentence(s roads.Step, arrival string) string {
	onto := sayRoad(s.Road)
	far := ""
	if s.Metres >= 10 {
		far = " for " + sayDistance(s.Metres)
	}
	switch s.Kind {
	case roads.Depart:
		return "Head " + s.Heading + with(" on ", onto) + far + "."
	case roads.Arrive:
		return arrival
	case roads.Continue:
		return "Continue" + with(" onto ", onto) + far + "."
	case roads.Keep:
		return "Keep " + s.Side + road(s, onto) + far + "."
	case roads.UTurn:
		return "Make a U-turn" + road(s, onto) + far + "."
	case roads.Ramp:
		return ramp(s) + far + "."
	case roads.Merge:
		return "Merge" + with(" onto ", onto) + far + "."
	case roads.Roundabout:
		if s.Exit == 0 {
			return "Enter the roundabout" + far + "."
		}
		return "At the roundabout, take the " + spoken.Ordinal(min(s.Exit, 999)) + " exit" + road(s, onto) + far + "."
	}
	how := "Turn "
	switch s.Bend {
	case "slight":
		how = "Turn slightly "
	case "sharp":
		how = "Turn sharply "
	}
	return how + s.Side + road(s, onto) + far + "."
}

func with(word, what string) string {
	if what == "" {
		return ""
	}
	return word + what
}

func road(s roads.Step, onto string) string {
	if s.Same {
		return with(" to stay on ", onto)
	}
	return with(" onto ", onto)
}

func ramp(s roads.Step) string {
	text := "Take the ramp"
	if s.Road.Exit != "" {
		text = "Take exit " + sayRef(s.Road.Exit)
	}
	text += with(" on the ", s.Side)
	switch {
	case s.Road.Toward != "":
		return text + " toward " + sayRef(s.Road.Toward)
	default:
		return text + with(" onto ", sayRoad(s.Road))
	}
}

// sayRoad is the name of a road, or its number; "" when it has neither.
func sayRoad(s roads.Street) string {
	if s.Name.Written != "" {
		return s.Name.Written
	}
	return sayRef(s.Ref)
}

var refPart = regexp.MustCompile(`[0-9]+|[A-Za-z]+`)

// sayRef says a road's number or a sign: "US 40" is "U S forty", "I 95 North" "Interstate ninety five North", a state's
// "DE 1" "Route one".
func sayRef(ref string) string {
	var words []string
	parts := refPart.FindAllString(ref, 16)
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		numbered := i+1 < len(parts) && parts[i+1][0] <= '9'
		switch {
		case err == nil:
			words = append(words, spoken.SayNumber(n))
		case p == "I" && numbered:
			words = append(words, "Interstate")
		case len(p) == 2 && p != "US" && p == strings.ToUpper(p) && numbered:
			words = append(words, "Route")
		case len(p) <= 2 && p == strings.ToUpper(p):
			words = append(words, strings.Join(strings.Split(p, ""), " "))
		default:
			words = append(words, p)
		}
	}
	return strings.Join(words, " ")
}

// sayList joins names: "Newark", "Newark or Wilmington", "Bear, Newark or Wilmington".
func sayList(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
	return strings.Join(names, "")
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// sayRoute fills an answer with a route to an address.
func sayRoute(a *Answer, to *Address, r *roads.Route, facing string) {
	arrival := fmt.Sprintf("You have arrived at %s.", spoken.SayNumber(to.Number)+" "+to.Street.Written)
	if facing != "" {
		arrival = fmt.Sprintf("You have arrived: %s is on your %s.", spoken.SayNumber(to.Number)+" "+to.Street.Written, facing)
	}
	a.Say = append(a.Say, "Directions to "+to.Say()+".")
	a.Route = &AnswerRoute{Metres: int(math.Round(r.Metres)), Seconds: int(math.Round(r.Seconds))}
	for _, s := range r.Steps {
		text := sentence(s, arrival)
		side := s.Side
		if s.Kind == roads.Arrive {
			side = facing
		}
		name := s.Road.Name.Written
		if name == "" {
			name = s.Road.Ref
		}
		lat, lon := degrees(s.At)
		a.Route.Steps = append(a.Route.Steps, AnswerStep{Kind: string(s.Kind), Side: side, Bend: s.Bend, Heading: s.Heading,
			Exit: s.Exit, Road: name, Toward: s.Road.Toward, Metres: int(math.Round(s.Metres)), Seconds: int(math.Round(s.Seconds)), Lat: lat, Lon: lon, Text: text})
		a.Say = append(a.Say, text)
	}
}

func degrees(p roads.Point) (lat, lon float64) { return float64(p.Lat) / 1e7, float64(p.Lon) / 1e7 }
