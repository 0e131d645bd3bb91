package announce

import (
	"context"
	"time"

	"ninja/ca"
)

// Sink is where a Receiver puts what it heard: the server's store of descriptions. Calls come from many goroutines and
// must not block for long. A Sink keeps time itself: what is not refreshed within its lifetime is gone.
type Sink interface {
	// Put takes a body that is verified already and becomes the Sink's own. The version that is held already may come
	// again: with a renewed certificate, other numbers, or just repeated. An error is a *Refused and is told to the
	// owner; an older version than the one that is held is one.
	Put(b Body) error
	// Refresh says that the owner's services live for another lifetime.
	// The slice is the caller's again afterwards, the numbers are the Sink's. It returns the names whose body the Sink does not hold at the version of the pair: those are not refreshed.
	Refresh(owner ca.ID, lifetime time.Duration, pairs []Pair) (unknown []string)
	// Withdraw ends a service at once, unless the Sink holds a newer version of it.
	Withdraw(owner ca.ID, name string, version uint64)
}

// Stream brings to the server what does not fit into datagrams, or all there is where no datagrams pass: the SDS
// client meets it. It sends bodies, then pairs, then ends the withdrawn, and returns the names of pairs whose body the
// server lacks.
type Stream interface {
	Send(ctx context.Context, bodies []Body, pairs []Pair, withdrawn []Pair) (unknown []string, err error)
}
