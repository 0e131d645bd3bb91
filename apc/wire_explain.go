package apc

import (
	"ninja/apc/apcpb"
	"ninja/apc/plan"
	"ninja/connectors"
)

func explanationToWire(e Explanation) *apcpb.Explanation {
	w := &apcpb.Explanation{Version: wireVersion, Request: e.Request}
	if e.Found != nil {
		w.Plan = planToWire(e.Found.Plan)
		for _, r := range e.Found.Rivals {
			w.Rivals = append(w.Rivals, &apcpb.Rival{Without: r.Without, Plan: planToWire(r.Plan), Why: r.Why})
		}
	}
	if r := e.Refusal; r != nil {
		w.Refusal = &apcpb.Refusal{Reason: string(r.Reason), Subject: r.Subject, Text: r.Text, Nearest: r.Nearest}
		w.Refusal.Conflict = r.Conflict
		if m := r.Missing; m != nil {
			w.Refusal.Missing = &apcpb.Conversion{From: m.From, Offers: m.Offers, To: m.To, Wants: m.Wants}
		}
		for _, c := range r.Causes {
			w.Refusal.Causes = append(w.Refusal.Causes, &apcpb.Cause{Kind: string(c.Kind), Name: c.Name, Asked: c.Asked, Needed: c.Needed})
		}
		for _, m := range r.Misses {
			w.Refusal.Misses = append(w.Refusal.Misses, &apcpb.Miss{From: m.From, To: m.To, Why: m.Why})
		}
		for _, s := range r.Short {
			w.Refusal.Short = append(w.Refusal.Short, &apcpb.Shortfall{Bound: s.Bound, Asked: s.Asked, Least: s.Least, With: s.With})
		}
	}
	return w
}

func explanationFromWire(w *apcpb.Explanation) Explanation {
	e := Explanation{Request: w.GetRequest()}
	if p := planFromWire(w.GetPlan()); p != nil {
		e.Found = &plan.Explanation{Plan: p, Proven: p.Proven()}
		for _, r := range w.GetRivals() {
			e.Found.Rivals = append(e.Found.Rivals, plan.Rival{Without: r.GetWithout(), Plan: planFromWire(r.GetPlan()), Why: r.GetWhy()})
		}
	}
	if r := w.GetRefusal(); r != nil {
		e.Refusal = &Refusal{Reason: plan.Reason(r.GetReason()), Subject: r.GetSubject(), Text: r.GetText(), Nearest: r.GetNearest()}
		e.Refusal.Conflict = r.GetConflict()
		if m := r.GetMissing(); m != nil {
			e.Refusal.Missing = &plan.Conversion{From: m.GetFrom(), Offers: m.GetOffers(), To: m.GetTo(), Wants: m.GetWants()}
		}
		for _, c := range r.GetCauses() {
			e.Refusal.Causes = append(e.Refusal.Causes, plan.Cause{Kind: plan.CauseKind(c.GetKind()), Name: c.GetName(), Asked: c.GetAsked(), Needed: c.GetNeeded()})
		}
		for _, m := range r.GetMisses() {
			e.Refusal.Misses = append(e.Refusal.Misses, plan.Miss{From: m.GetFrom(), To: m.GetTo(), Why: m.GetWhy()})
		}
		for _, s := range r.GetShort() {
			e.Refusal.Short = append(e.Refusal.Short, plan.Shortfall{Bound: s.GetBound(), Asked: s.GetAsked(), Least: s.GetLeast(), With: s.GetWith()})
		}
	}
	return e
}

func planToWire(p *plan.Plan) *apcpb.Plan {
	if p == nil {
		return nil
	}
	w := &apcpb.Plan{
		Catalogue: p.Version, Cost: p.Cost, Bound: p.Bound, Examined: int64(p.Examined),
		Total: costToWire(Cost{CPU: p.CPU, Memory: p.Memory, Latency: p.Latency, Price: p.Price, Quality: p.Quality}),
	}
	for _, s := range p.Steps {
		w.Steps = append(w.Steps, &apcpb.PlanStep{
			Operator: s.Name, Node: s.NodeID, In: s.In.String(), Out: s.Out.String(), Requirement: uint32(s.Requirement + 1), Cost: s.Cost,
			Takes: costToWire(Cost{CPU: s.CPU, Memory: s.Memory, Latency: s.Latency, Price: s.Price, Quality: s.Quality}),
		})
	}
	for _, h := range p.Hops {
		w.Hops = append(w.Hops, &apcpb.PlanHop{
			Type: h.Type.String(), Transport: h.Transport, Cost: h.Cost,
			Takes: costToWire(Cost{CPU: h.CPU, Latency: h.Latency, Price: h.Price}),
		})
	}
	return w
}

func planFromWire(w *apcpb.Plan) *plan.Plan {
	if w == nil {
		return nil
	}
	t := costFromWire(w.GetTotal())
	p := &plan.Plan{
		Version: w.GetCatalogue(), Cost: w.GetCost(), Bound: w.GetBound(), Examined: int(w.GetExamined()),
		CPU: t.CPU, Memory: t.Memory, Latency: t.Latency, Price: t.Price, Quality: t.Quality,
	}
	for _, s := range w.GetSteps() {
		t := costFromWire(s.GetTakes())
		p.Steps = append(p.Steps, plan.Step{
			Name: s.GetOperator(), NodeID: s.GetNode(), In: typeFromWire(s.GetIn()), Out: typeFromWire(s.GetOut()),
			Requirement: int(s.GetRequirement()) - 1, Cost: s.GetCost(),
			CPU: t.CPU, Memory: t.Memory, Latency: t.Latency, Price: t.Price, Quality: t.Quality,
		})
	}
	for _, h := range w.GetHops() {
		t := costFromWire(h.GetTakes())
		p.Hops = append(p.Hops, plan.Hop{
			Type: typeFromWire(h.GetType()), Transport: h.GetTransport(), Cost: h.GetCost(), Latency: t.Latency, CPU: t.CPU, Price: t.Price,
		})
	}
	return p
}

// typeFromWire reads a type; one that this version cannot read is shown as none.
func typeFromWire(s string) connectors.Type {
	t, err := connectors.ParseType(s)
	if err != nil {
		return connectors.Type{}
	}
	return t
}
