package udp

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ninja/connectors"
)

// What is passed on without being held is what would have come out of the buffer, whatever came before.
func TestPassingIsHolding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		passing, holding := &buffer{reorder: 40 * ms}, &buffer{reorder: 40 * ms}
		now, next := time.Unix(1000, 0), uint64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "later")) * ms)
			var got, want []connectors.ADU
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0:
				number := next + rapid.Uint64Range(0, 2).Draw(t, "marked")
				passing.mark(connectors.EndOfUtterance, number, now)
				holding.mark(connectors.EndOfUtterance, number, now)
			case 1:
				passing.flush()
				holding.flush()
			case 2:
				passing.flushed(next)
				holding.flushed(next)
			case 3:
				passing.finish(next+1, now)
				holding.finish(next+1, now)
			default:
				f := drawn(t, &next)
				if a, ok := passing.pass(f); ok {
					got = append(got, a)
				} else {
					passing.put(f, now)
				}
				holding.put(f, now)
			}
			got, want = append(got, drained(passing, now)...), drained(holding, now)
			if !slices.EqualFunc(got, want, sameADU) || passing.lost != holding.lost || passing.late != holding.late || passing.held != holding.held {
				t.Fatalf("passed %v, held %v; lost %d and %d, late %d and %d", got, want, passing.lost, holding.lost, passing.late, holding.late)
			}
		}
	})
}

// drawn is the next fragment, or one of those around it.
func drawn(t *rapid.T, next *uint64) fragment {
	number := *next
	if rapid.IntRange(0, 4).Draw(t, "order") == 0 {
		number += rapid.Uint64Range(0, 3).Draw(t, "ahead")
	} else if number > 0 && rapid.IntRange(0, 6).Draw(t, "again") == 0 {
		number--
	}
	*next = max(*next, number+1)
	f := fragment{number: number, seq: number + 1, fragments: rapid.IntRange(1, 2).Draw(t, "fragments"), payload: []byte{byte(number)}}
	f.index = rapid.IntRange(0, f.fragments-1).Draw(t, "index")
	if number%7 == 3 {
		f.mark = connectors.EndOfDocument
	}
	return f
}

func drained(b *buffer, now time.Time) (all []connectors.ADU) {
	for {
		a, v, _ := b.take(now)
		if v != deliver {
			return all
		}
		all = append(all, a)
	}
}

func sameADU(a, b connectors.ADU) bool {
	return a.Seq == b.Seq && a.Mark == b.Mark && a.MediaTime == b.MediaTime && string(a.Payload) == string(b.Payload)
}
