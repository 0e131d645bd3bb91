// Package plan finds the best path between two endpoints: which operators in which order, on which nodes, joined by which
// transports; proves that there is no better one, or says why there is none (ninja-architecture, section 7.2, steps 1
// and 2, done as one). It is pure: values in, values out; time comes in as a context.
//
// # Use
//
//	cat, err := plan.NewCatalogue(plan.Parts{Operators: ..., Nodes: ..., Links: ..., Data: ...})
//	form, err := plan.ParseForm("phone:lobby ! ?map-directions ! phone:lobby latency<2s")
//	p, err := cat.Plan(ctx, plan.Request{From: "…#lobby/microphone", To: "…#lobby/speaker",
//	        Include: []plan.Requirement{{Label: "?map-directions", Any: []string{"…#map/directions"}}},
//	        Bounds: form.Bounds})
//	var no *plan.Refusal; errors.As(err, &no)
//
// The caller builds the catalogue of what the asker may see, and nothing else: operators that are alike but for where
// they run are one Operator with several Places (Gather joins them); a unit is a Node of its own with its endpoints as Fixed operators.
//
// # The model
//
// A path is From, up to sixteen operators, To; each at one node, each hop by one transport. Everything is additive: a
// path's latency is the sum of the 99th percentiles of its steps and hops (a conservative promise), CPU, memory and price
// are sums, quality is a product. The objective is the weighted sum of these, plus, for each step, what crowding its
// node costs. Steps on one node may be joined by a local transport; a node's cores and memory bound its steps together.
//
// # The search
//
// A* over chains of operators. What is left to the end is bounded from below by Dijkstra's algorithm run backwards over
// abstract types and progress through the required partial order, for the objective and each bound resource apart; and by
// the least hops that still lead through the nodes of what is required. An abstract type is a media type, which parameters
// there are, which of them nothing has limited yet, and a meaning (the parameter about), other values dropped. That a
// parameter is still free matters: a chain may not lose it undecided, and bounds that do not know it are far too low.
//
// The bounds are worked out from both ends (forward.go): once the way back from the end and the way on from the source
// have met, states are left out through which no plan comes to less than is known, or assumed, to be possible. What is
// assumed (a tenth over the first lower bound, then more) is only ever assumed: when no plan is found below it, the next
// assumption is tried, so that the last one is the proof.
//
// A chain's own part is exact: its open type (operators.Open) and its best placements, kept by node. Two chains with the
// same open type and progress have the same future; labels that another is at least as good as are dropped. The first
// complete chain that leaves the queue is the best: nothing left in it can be cheaper.
//
// Bounds that the best plan of all would break are hard to search under. So they get prices, and the search goes by what
// plans cost with the prices added and what the bounds allow refunded, which is never more than they cost (lagrange.go).
// All of that happens within a fence (fence.go): the states that a plan of some cost can come to, its bounds forgotten.
//
// A time budget ends a search between two chains. What has been found by then is the plan, with its gap; a budget is
// overrun by at most what it takes to have any plan at all, which is bounded.
//
// # The proof
//
// Prove gives a plan with a Proof that can be checked without this package's search, one operator and one hop at a time;
// the tests do that. Plans on one catalogue do not wait for each other: each has its own automaton of open types.
//
// # Endpoints, changes, moves
//
// A request's end may be an address outside the catalogue (Endpoint). A catalogue is a snapshot; With makes the next one
// at the cost of the change, but for what goes away. Move says whether a running path should go over to a better plan, and
// which of its stages go on.
//
// # Trunks
//
// A hop between two nodes that a trunk of running paths joins already may have its own price (Parts.Trunks,
// Transport.Trunk): that is additive, since what it costs does not depend on the rest of the path. What does depend on it
// is left out: a new trunk that a path opens by one hop and uses again by a later one between the same two nodes. That
// would make a chain's best beginning not the best beginning, unless labels also knew which pairs of nodes they have
// joined; such a path leaves a node and comes back to it from the same other node, which co-location mostly rules out, so
// that what is lost is rare and on the safe side.
//
// # What it does not do
//
// External data that a type names by reference is not priced; Operator.Data is. Which data an operator gets by its type
// is often decided by what comes behind it (a recogniser's grammar by the service that it speaks to), when it has a place
// already; a price for it would make the cost of a beginning depend on the end.
package plan
