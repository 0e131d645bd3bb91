package capability

import (
	"context"
	"slices"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
)

// maxTold bounds the members that one answer names, over all its groups.
const maxTold = 10_000

// Reach is one entry of an ACL and, for a group, who is behind it.
type Reach struct {
	Entry
	// Told: Members and Size are known. Who is in a group is told to its members and to the administrator, and to no one
	// else: anybody could name a group in an ACL in order to learn of it.
	Told bool
	// Members of the group, all or the first of them; Size is how many there are.
	Members []ca.ID
	Size    int
}

// reaches is whom a service's ACL reaches, as far as the asker may know.
func (s *state) reaches(service string, asker ca.ID, admin bool) (out []Reach) {
	told := 0
	for _, e := range s.acl(service).Entries {
		r := Reach{Entry: e}
		if of, group, ok := e.Who.group(); ok && of == "" && (admin || slices.Contains(s.member[asker], group)) {
			members := s.groups[group]
			r.Told, r.Size, r.Members = true, len(members), members[:min(len(members), maxTold-told)]
			told += len(r.Members)
		}
		out = append(out, r)
	}
	return out
}

// WhoSees implements the RPC.
func (m *Manager) WhoSees(ctx context.Context, r *pb.WhoSeesRequest) (*pb.WhoSeesResponse, error) {
	peer, err := m.owner(ctx, r.Service)
	if err != nil {
		return nil, err
	}
	admin, _ := ca.MakeID(m.id.ID().Domain(), ca.KindUser, "admin")
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &pb.WhoSeesResponse{Version: 1}
	for _, reach := range m.state.reaches(r.Service, peer.ID, peer.ID == admin) {
		p := &pb.Reach{Entry: &pb.Entry{Who: string(reach.Who), Operations: uint32(reach.Ops)}, Size: uint32(reach.Size), Told: reach.Told}
		for _, id := range reach.Members {
			p.Members = append(p.Members, string(id))
		}
		out.Reaches = append(out.Reaches, p)
	}
	return out, nil
}
