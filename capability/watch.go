package capability

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
)

// follows says whose ACLs a principal may know: those who check rights for all know all ("", true), those who check them
// for their own services know these, others none.
func follows(id ca.ID) (owner ca.ID, may bool) {
	switch id.Kind() {
	case ca.KindSDS, ca.KindAPC, ca.KindProxy, ca.KindCapability:
		return "", true
	case ca.KindBase, ca.KindUnit:
		return id, true
	}
	return "", false
}

// Watch implements the RPC.
func (m *Manager) Watch(_ *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	peer, err := m.caller(stream.Context())
	if err != nil {
		return err
	}
	owner, may := follows(peer.ID)
	if !may {
		return status.Errorf(codes.PermissionDenied, "%s may not follow the ACLs", peer.ID)
	}
	w, err := m.watch(owner)
	if err != nil {
		return err
	}
	defer m.unwatch(w)
	tick := time.NewTicker(Heartbeat)
	defer tick.Stop()
	for restart := true; ; restart = false {
		r := m.drain(w)
		r.Restart = restart
		if err := stream.Send(r); err != nil {
			return err
		}
		if !r.Complete {
			continue
		}
		select {
		case <-w.wake:
		case <-tick.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// watch begins a watcher that has everything to send.
func (m *Manager) watch(owner ca.ID) (*watcher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.watchers) >= maxWatchers {
		return nil, status.Errorf(codes.ResourceExhausted, "%d followers already", maxWatchers)
	}
	w := &watcher{owner: owner, acls: map[string]struct{}{}, revoked: map[ca.ID]struct{}{}, wake: make(chan struct{}, 1)}
	for service := range m.state.acls {
		w.add(service)
	}
	for id := range m.state.revoked {
		w.revoked[id] = struct{}{}
	}
	m.watchers[w] = struct{}{}
	return w, nil
}

func (m *Manager) unwatch(w *watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watchers, w)
}

// drain takes the next message's worth out of what a watcher has yet to send: always the present values, so that a slow
// stream skips the ones between.
func (m *Manager) drain(w *watcher) *pb.WatchResponse {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &pb.WatchResponse{Version: 1}
	for id := range w.revoked { // first: they take rights away
		if len(r.Revocations) == batch {
			break
		}
		delete(w.revoked, id)
		r.Revocations = append(r.Revocations, &pb.Revocation{Principal: string(id), Epoch: m.state.revoked[id]})
	}
	size := 0
	for service := range w.acls {
		if size > batchBytes {
			break
		}
		delete(w.acls, service)
		a := aclTo(m.state.acl(service))
		size += proto.Size(a)
		r.Acls = append(r.Acls, a)
	}
	r.Complete = len(w.acls) == 0 && len(w.revoked) == 0
	return r
}

// add notes that a service's ACL is to be sent, if the watcher may know it.
func (w *watcher) add(service string) {
	if w.owner == "" || strings.HasPrefix(service, ServiceID(w.owner, "")) {
		w.acls[service] = struct{}{}
		w.nudge()
	}
}

func (w *watcher) nudge() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

func aclTo(a *ACL) *pb.ACL {
	p := &pb.ACL{Service: a.Service, AclVersion: a.Version}
	for _, e := range a.Entries {
		p.Entries = append(p.Entries, &pb.Entry{Who: string(e.Who), Operations: uint32(e.Ops)})
	}
	return p
}

func aclFrom(p *pb.ACL) *ACL {
	return &ACL{Service: p.Service, Version: p.AclVersion, Entries: entriesFrom(p.Entries)}
}

func entriesFrom(entries []*pb.Entry) []Entry {
	out := make([]Entry, 0, len(entries))
	for _, e := range entries {
		out = append(out, Entry{Who(e.GetWho()), operationsFrom(e)})
	}
	return out
}

// operationsFrom keeps what ACL.Check refuses: bits that are none of ours must not become others.
func operationsFrom(e *pb.Entry) Operations {
	if e.GetOperations() > 0xff {
		return 0xff
	}
	return Operations(e.GetOperations())
}

func ids(members []string) []ca.ID {
	out := make([]ca.ID, len(members))
	for i, m := range members {
		out[i] = ca.ID(m)
	}
	return out
}
