package apc

import (
	"time"

	"ninja/apc/apcpb"
	"ninja/ca"
	"ninja/connectors"
	"ninja/operators"
)

// wireVersion is the version of every message; a peer one version away is understood.
const wireVersion = 1

func toWire(i Info) *apcpb.PathInfo {
	w := &apcpb.PathInfo{
		Path: i.Path, Request: i.Request, Owner: string(i.Owner), State: string(i.State), Why: i.Why, Epoch: i.Epoch,
		CreatedUnixMs: i.Created.UnixMilli(), PlanUs: i.PlanTime.Microseconds(), SetupUs: i.SetUp.Microseconds(),
		Explanation: i.Explanation, Cost: costToWire(i.Cost), SearchUs: i.Search.Microseconds(), Spares: uint32(i.Spares),
		Score: i.Score, Repairs: uint32(i.Repairs), Moved: uint32(i.Moved),
	}
	if !i.Expires.IsZero() {
		w.ExpiresUnixMs = i.Expires.UnixMilli()
	}
	for _, s := range i.Steps {
		w.Steps = append(w.Steps, &apcpb.Step{
			Stage: s.Stage, Operator: s.Operator, Service: s.Service, Node: string(s.Node), Program: s.Program,
			Cost: costToWire(s.Cost), AdusIn: s.In, AdusOut: s.Out,
			ProcessP50Us: s.ProcessP50.Microseconds(), ProcessP99Us: s.ProcessP99.Microseconds(),
		})
	}
	for _, h := range i.Hops {
		w.Hops = append(w.Hops, &apcpb.Hop{
			Hop: h.Hop, Type: h.Type.String(), Transport: h.Transport, Adus: h.Stats.ADUs, Bytes: h.Stats.Bytes,
			Lost: h.Stats.Lost, LinkUs: h.Stats.Link.Microseconds(), JitterUs: h.Stats.Jitter.Microseconds(),
		})
	}
	for _, m := range i.Moves {
		w.Moves = append(w.Moves, &apcpb.Move{
			UnixMs: m.Time.UnixMilli(), Epoch: m.Epoch, Cause: m.Cause, Why: m.Why, Before: m.Before, After: m.After,
			GapUs: m.Gap.Microseconds(), Steps: m.Steps,
		})
	}
	if o := i.Outlook; o != nil {
		w.Outlook = &apcpb.Outlook{UnixMs: o.Time.UnixMilli(), Now: o.Now, Best: o.Best, Text: o.Text}
	}
	return w
}

func costToWire(c Cost) *apcpb.Cost {
	return &apcpb.Cost{Cpu: c.CPU, Memory: c.Memory, LatencyUs: c.Latency.Microseconds(), Price: c.Price, Quality: c.Quality}
}

func fromWire(w *apcpb.PathInfo) Info {
	i := Info{
		Path: w.GetPath(), Request: w.GetRequest(), Owner: ca.ID(w.GetOwner()), State: State(w.GetState()), Why: w.GetWhy(),
		Epoch: w.GetEpoch(), Created: time.UnixMilli(w.GetCreatedUnixMs()), PlanTime: us(w.GetPlanUs()), SetUp: us(w.GetSetupUs()),
		Explanation: w.GetExplanation(), Cost: costFromWire(w.GetCost()), Search: us(w.GetSearchUs()), Spares: int(w.GetSpares()),
		Score: w.GetScore(), Repairs: int(w.GetRepairs()), Moved: int(w.GetMoved()),
	}
	if ms := w.GetExpiresUnixMs(); ms != 0 {
		i.Expires = time.UnixMilli(ms)
	}
	for _, m := range w.GetMoves() {
		i.Moves = append(i.Moves, Move{
			Time: time.UnixMilli(m.GetUnixMs()), Epoch: m.GetEpoch(), Cause: m.GetCause(), Why: m.GetWhy(), Before: m.GetBefore(),
			After: m.GetAfter(), Gap: us(m.GetGapUs()), Steps: m.GetSteps(),
		})
	}
	if o := w.GetOutlook(); o != nil {
		i.Outlook = &Outlook{Time: time.UnixMilli(o.GetUnixMs()), Now: o.GetNow(), Best: o.GetBest(), Text: o.GetText()}
	}
	for _, s := range w.GetSteps() {
		i.Steps = append(i.Steps, Step{
			Stage: s.GetStage(), Operator: s.GetOperator(), Service: s.GetService(), Node: ca.ID(s.GetNode()),
			Program: s.GetProgram(), Cost: costFromWire(s.GetCost()), In: s.GetAdusIn(), Out: s.GetAdusOut(),
			ProcessP50: us(s.GetProcessP50Us()), ProcessP99: us(s.GetProcessP99Us()),
		})
	}
	for _, h := range w.GetHops() {
		i.Hops = append(i.Hops, Hop{Hop: h.GetHop(), Type: typeFromWire(h.GetType()), Transport: h.GetTransport(), Stats: connectors.Stats{
			ADUs: h.GetAdus(), Bytes: h.GetBytes(), Lost: h.GetLost(), Link: us(h.GetLinkUs()), Jitter: us(h.GetJitterUs()),
		}})
	}
	return i
}

func costFromWire(c *apcpb.Cost) Cost {
	return Cost{CPU: c.GetCpu(), Memory: c.GetMemory(), Latency: us(c.GetLatencyUs()), Price: c.GetPrice(), Quality: c.GetQuality()}
}

func us(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

func eventToWire(e Event) *apcpb.PathEvent {
	return &apcpb.PathEvent{
		UnixUs: e.Time.UnixMicro(), Kind: e.Kind, Stage: e.Stage, Node: string(e.Node), NoteKind: e.NoteKind, Text: e.Text,
	}
}

func eventFromWire(w *apcpb.PathEvent) Event {
	return Event{
		Time: time.UnixMicro(w.GetUnixUs()), Kind: w.GetKind(), Stage: w.GetStage(), Node: ca.ID(w.GetNode()),
		NoteKind: w.GetNoteKind(), Text: w.GetText(),
	}
}

func requestToWire(r Request) *apcpb.PathRequest {
	w := &apcpb.PathRequest{Version: wireVersion, Path: r.Path, Request: r.Line, Capability: r.Capability, Templates: r.Templates}
	if r.Position != nil {
		w.Position = &apcpb.Position{Lat: r.Position.Lat, Lon: r.Position.Lon}
	}
	return w
}

func requestFromWire(w *apcpb.PathRequest) Request {
	r := Request{Path: w.GetPath(), Line: w.GetRequest(), Capability: w.GetCapability(), Templates: w.GetTemplates()}
	if p := w.GetPosition(); p != nil {
		r.Position = &operators.Position{Lat: p.GetLat(), Lon: p.GetLon()}
	}
	return r
}
