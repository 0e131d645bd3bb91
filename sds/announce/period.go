package announce

import "time"

// calm is how much of the budget the next shorter period may take before it is chosen.
const calm = 0.7

// EstimatePeriod is the measurement-based estimate of the period (ninja-architecture, 6.1: "the optimal send rate for
// messages that produces the desired tradeoff between update latency and bandwidth utilization"). Heard is how many
// bytes of authentic announcements came during the present period; they are what one round of announcements takes,
// whatever the period is. Budget is in bytes a second. The result is a power of two of milliseconds from least to most;
// PERIOD.md states the formula.
func EstimatePeriod(present time.Duration, heard, budget float64, least, most time.Duration) time.Duration {
	seconds := heard / budget // what the round may take
	switch {
	case seconds > present.Seconds():
		present *= 2 // one step at a time: one noisy period must not make everybody silent
	case seconds < calm*present.Seconds()/2:
		present /= 2
	}
	return RoundPeriod(min(max(present, least), most))
}
