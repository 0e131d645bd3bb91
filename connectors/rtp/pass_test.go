package rtp

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
		fill := func([]byte, int, int) []byte { return []byte{1, 2} }
		passing, holding := &buffer{format: telephone, reorder: 40 * ms}, &buffer{format: telephone, reorder: 40 * ms}
		if rapid.Bool().Draw(t, "conceal") {
			passing.conceal, holding.conceal = fill, fill
		}
		now, next := start, uint64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "later")) * ms)
			var got []connectors.ADU
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0:
				position := next + rapid.Uint64Range(0, 2).Draw(t, "marked")
				passing.mark(connectors.EndOfUtterance, position, now)
				holding.mark(connectors.EndOfUtterance, position, now)
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
				p := drawn(t, &next)
				if a, ok := passing.pass(p); ok {
					got = append(got, a)
				} else {
					passing.put(p, now)
				}
				holding.put(p, now)
			}
			got = append(got, drained(passing, now)...)
			if want := drained(holding, now); !slices.EqualFunc(got, want, sameADU) || passing.lost != holding.lost || passing.late != holding.late {
				t.Fatalf("passed %v, held %v; lost %d and %d, late %d and %d", got, want, passing.lost, holding.lost, passing.late, holding.late)
			}
		}
	})
}

// drawn is the next packet, or one of those around it.
func drawn(t *rapid.T, next *uint64) packet {
	position := *next
	if rapid.IntRange(0, 4).Draw(t, "order") == 0 {
		position += rapid.Uint64Range(0, 3).Draw(t, "ahead")
	} else if position > 0 && rapid.IntRange(0, 6).Draw(t, "again") == 0 {
		position--
	}
	*next = max(*next, position+1)
	m := connectors.Mark(0)
	if position%7 == 3 {
		m = connectors.EndOfUtterance
	}
	return pack(position, m)
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
