package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ninja/apc"
	"ninja/examples/directions"
)

// verdict is what a call came to.
type verdict struct {
	said    string
	path    apc.Info
	outcome outcome
	// same is whether the answer speaks of the address that was said; status is the map service's.
	same   bool
	status directions.Status
}

// answerLine is how the map service notes an answer: "found: 615 South Main Street, Newark, 4.2 miles, ...", or what it
// heard when it could make nothing of it.
var answerLine = regexp.MustCompile(`^(found|unknown|ambiguous|unheard): (?:(\d+) ([^,]+?)(?:, .*| or .*)?|heard .*)$`)

// judge holds the answer against what was said.
func (v *verdict) judge() error {
	m := answerLine.FindStringSubmatch(v.outcome.answer)
	if m == nil {
		return fmt.Errorf("the map service answered %q, of which no address can be read", v.outcome.answer)
	}
	v.status = directions.Status(m[1])
	number, _ := strconv.Atoi(m[2]) // "" is none
	a := directions.Answer{
		XMLName: xml.Name{Space: directions.AnswerNamespace, Local: "answer"}, About: "directions", Lang: "en", Status: v.status,
		Addresses: []directions.AnswerAddress{{Number: number, Street: m[3]}},
	}
	b, err := a.Marshal()
	if err != nil {
		return err
	}
	v.same = directions.SameAddress(v.said, b)
	return nil
}

// print shows the result; the error is what the exit code says.
func (v *verdict) print(s *stage, p *printer) error {
	p.act("Result")
	p.line("said:        %s", v.said)
	p.line("understood:  %s", v.outcome.recognised)
	p.line("answered:    %s", v.outcome.answer)
	p.line("plan %s, set-up %s, first sample of the answer %s", ms(v.path.PlanTime), ms(v.path.SetUp), v.outcome.firstSample)
	p.line("recordings:  %s", filepath.Join(s.out, "said.wav"))
	p.line("             %s", filepath.Join(s.out, "heard.wav"))
	p.line("map data © OpenStreetMap contributors, ODbL 1.0")
	switch {
	case v.outcome.firstSample == "":
		return errors.New("the telephone heard nothing")
	case v.same && v.status == directions.Unknown:
		return unknownAddress{v.said}
	case v.same:
		return nil
	}
	return fmt.Errorf("the answer is for another address than the one that was said")
}

// series makes many calls over one system and counts.
func series(ctx context.Context, s *stage, o options, sayings []string) error {
	quiet := &printer{quiet: true}
	for _, voice := range o.Voice {
		exact := 0
		var waits []time.Duration
		for _, say := range sayings {
			o.HangUp = "at-first-sample"
			if err := pickUp(ctx, s, quiet, o, voice, say); err != nil {
				return err
			}
			v, err := call(ctx, s, quiet, say)
			if err := errors.Join(err, s.hangUp()); err != nil {
				return fmt.Errorf("voice %s, %q: %w", voice, say, err)
			}
			if v.same && v.status != directions.Unheard {
				exact++
			}
			if wait, ok := v.outcome.wait(); ok {
				waits = append(waits, wait)
			}
			fmt.Printf("  %-5s %-5v %-16s %q heard as %q: %s\n", voice, v.same, strings.TrimSuffix(v.outcome.firstSample, " after the end of speech"), say, v.outcome.recognised, v.outcome.answer)
		}
		slices.Sort(waits)
		fmt.Printf("voice %s, seed %d: %d of %d exact", voice, o.Seed, exact, len(sayings))
		if len(waits) > 0 {
			fmt.Printf("; first sample of the answer after the end of speech: median %v, most %v (of %d)", waits[len(waits)/2], waits[len(waits)-1], len(waits))
		}
		fmt.Println()
	}
	return nil
}

// wait is how long after the end of speech the answer began.
func (r *outcome) wait() (time.Duration, bool) {
	text, _, _ := strings.Cut(r.firstSample, " ms")
	n, err := strconv.Atoi(text)
	return time.Duration(n) * time.Millisecond, err == nil
}
