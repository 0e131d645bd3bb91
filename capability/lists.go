package capability

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ninja/ca"
	pb "ninja/capability/capabilitypb"
)

// listed bounds what one answer lists.
const listed = 500

// errEnough ends a listing.
var errEnough = errors.New("enough")

// ACLs implements the RPC. It reads the store, which has an owner's ACLs side by side: anybody may ask, and must not have
// all ACLs looked through.
func (m *Manager) ACLs(ctx context.Context, r *pb.ACLsRequest) (*pb.ACLsResponse, error) {
	peer, err := m.caller(ctx)
	if err != nil {
		return nil, err
	}
	out := &pb.ACLsResponse{Version: 1}
	err = m.store.List(ctx, tableACL, string(peer.ID)+"#", func(key string, value []byte, _ uint64) error {
		if key <= r.After {
			return nil
		}
		if len(out.Acls) == listed {
			return errEnough
		}
		var p pb.ACL
		if err := proto.Unmarshal(value, &p); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		out.Acls = append(out.Acls, &p)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, status.Errorf(codes.Unavailable, "read the stored ACLs: %v", err)
	}
	return out, nil
}

// Groups implements the RPC.
func (m *Manager) Groups(ctx context.Context, r *pb.GroupsRequest) (*pb.GroupsResponse, error) {
	if _, err := m.admin(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &pb.GroupsResponse{Version: 1}
	names := slices.Sorted(maps.Keys(m.state.groups))
	from, found := slices.BinarySearch(names, r.After)
	if found {
		from++
	}
	for _, name := range names[from:min(from+listed, len(names))] {
		out.Groups = append(out.Groups, &pb.GroupsResponse_Size{Name: name, Members: uint32(len(m.state.groups[name]))})
	}
	return out, nil
}

// EditGroup implements the RPC. Two who edit at once do not undo each other's work, as they would with SetGroup.
func (m *Manager) EditGroup(ctx context.Context, r *pb.EditGroupRequest) (*pb.Group, error) {
	peer, err := m.admin(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var members []string
	for _, id := range m.state.groups[r.Name] {
		if !slices.Contains(r.Remove, string(id)) {
			members = append(members, string(id))
		}
	}
	members = append(members, r.Add...)
	slices.Sort(members)
	return m.setGroup(ctx, peer, &pb.SetGroupRequest{Name: r.Name, Members: slices.Compact(members)})
}

// ACLs lists the ACLs of the identity's own services.
func (c *Client) ACLs(ctx context.Context) (out []*ACL, err error) {
	for after := ""; ; after = out[len(out)-1].Service {
		r, err := c.rpc.ACLs(ctx, &pb.ACLsRequest{Version: 1, After: after})
		if err != nil {
			return nil, err
		}
		for _, p := range r.Acls {
			out = append(out, aclFrom(p))
		}
		if len(r.Acls) < listed {
			return out, nil
		}
	}
}

// GroupSize is a group and how many members it has.
type GroupSize struct {
	Name    string
	Members int
}

// Groups lists the groups; only user/admin may.
func (c *Client) Groups(ctx context.Context) (out []GroupSize, err error) {
	for after := ""; ; after = out[len(out)-1].Name {
		r, err := c.rpc.Groups(ctx, &pb.GroupsRequest{Version: 1, After: after})
		if err != nil {
			return nil, err
		}
		for _, p := range r.Groups {
			out = append(out, GroupSize{p.Name, int(p.Members)})
		}
		if len(r.Groups) < listed {
			return out, nil
		}
	}
}

// EditGroup adds members to a group, which it makes, and removes some, and returns who they are then; only user/admin may.
func (c *Client) EditGroup(ctx context.Context, name string, add, remove []ca.ID) ([]ca.ID, error) {
	r := &pb.EditGroupRequest{Version: 1, Name: name}
	for _, id := range add {
		r.Add = append(r.Add, string(id))
	}
	for _, id := range remove {
		r.Remove = append(r.Remove, string(id))
	}
	g, err := c.rpc.EditGroup(ctx, r)
	if err != nil {
		return nil, err
	}
	return ids(g.Members), nil
}
