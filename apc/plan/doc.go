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
// abstract types (media type and meaning, parameters dropped) and progress through the required partial order, for the
// objective and each bound resource apart; and by the least hops that still lead through the nodes of what is required.
// A chain's own part is exact: its open type (operators.Open) and its best placements, kept by node. Two chains with the
// same open type and progress have the same future; labels that another is at least as good as are dropped. The first
// complete chain that leaves the queue is the best: nothing left in it can be cheaper.
//
// Bounds that the best plan of all would break are hard to search under. So they get prices, and the search goes by what
// plans cost with the prices added and what the bounds allow refunded, which is never more than they cost (lagrange.go).
//
// # The proof
//
// Prove gives a plan with a Proof that can be checked without this package's search, one operator and one hop at a time;
// the tests do that. Plans on one catalogue do not wait for each other: each has its own automaton of open types.
//
// # What it does not do
//
// Trunks between proxies are not part of a hop's cost: a second stream over a trunk that is there anyway would be cheaper
// than the first, and then what a hop costs would depend on the rest of the path. The sum would no longer be additive: a
// chain's best beginning would not be the best beginning, and both the dominance of labels and the lower bounds, which
// every proof stands on, would be wrong. What trunks save stays out of the plan, on the safe side. (Between the paths that
// run already and a new one it would be additive: a link that has a trunk can be given a lower Price.)
//
// External data that a type names by reference is not priced; Operator.Data is. Which data an operator gets by its type
// is often decided by what comes behind it (a recogniser's grammar by the service that it speaks to), when it has a place
// already; a price for it would make the cost of a beginning depend on the end.
package plan
