package pbf

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

var errShort = errors.New("a value is cut off")

// field is one field of a protocol buffer message.
type field struct {
	num    protowire.Number
	varint uint64 // of wire type varint
	bytes  []byte // of wire type bytes
	at     int    // where bytes begin in the message
}

// fields calls f for every field of a message; fields of fixed width, which the format does not use, are skipped.
func fields(b []byte, f func(field) error) error {
	for at := 0; at < len(b); {
		num, typ, n := protowire.ConsumeTag(b[at:])
		if n < 0 {
			return protowire.ParseError(n)
		}
		at += n
		x := field{num: num}
		switch typ {
		case protowire.VarintType:
			x.varint, n = protowire.ConsumeVarint(b[at:])
		case protowire.BytesType:
			x.bytes, n = protowire.ConsumeBytes(b[at:])
			x.at = at + n - len(x.bytes)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b[at:])
			if n < 0 {
				return protowire.ParseError(n)
			}
			at += n
			continue
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		at += n
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

// packed appends the numbers of a packed field.
func packed(to []uint64, b []byte) ([]uint64, error) {
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		to, b = append(to, v), b[n:]
	}
	return to, nil
}

// deltas appends the numbers of a packed field of signed differences, added up.
func deltas(to []int64, b []byte) ([]int64, error) {
	sum := int64(0)
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		sum += protowire.DecodeZigZag(v)
		to, b = append(to, sum), b[n:]
	}
	return to, nil
}

func (d *decoder) str(i uint64) (string, error) {
	if i >= uint64(len(d.strings)) {
		return "", fmt.Errorf("string %d of a table of %d", i, len(d.strings))
	}
	return d.strings[i], nil
}

// place turns the file's coordinates into units of 1e-7 degrees.
func (d *decoder) place(lat, lon int64) (int32, int32, error) {
	la, lo := (d.latOff+d.gran*lat)/100, (d.lonOff+d.gran*lon)/100
	if la < -900000000 || la > 900000000 || lo < -1800000000 || lo > 1800000000 {
		return 0, 0, fmt.Errorf("a node at %d, %d (1e-7 degrees), which is not on earth", la, lo)
	}
	return int32(la), int32(lo), nil
}

// tags joins the parallel lists of keys and values.
func (d *decoder) tags(to Tags) (Tags, error) {
	if len(d.keys) != len(d.vals) {
		return nil, fmt.Errorf("%d keys and %d values", len(d.keys), len(d.vals))
	}
	for i := range d.keys {
		k, err := d.str(d.keys[i])
		if err != nil {
			return nil, err
		}
		v, err := d.str(d.vals[i])
		if err != nil {
			return nil, err
		}
		to = append(to, Tag{k, v})
	}
	return to, nil
}

// keysAndValues takes fields 2 and 3, which are the same in nodes, ways and relations.
func (d *decoder) keysAndValues(f field) (err error) {
	switch f.num {
	case 2:
		d.keys, err = packed(d.keys, f.bytes)
	case 3:
		d.vals, err = packed(d.vals, f.bytes)
	}
	return err
}

// plain reads a node that stands alone.
func (d *decoder) plain(b []byte) error {
	d.keys, d.vals = d.keys[:0], d.vals[:0]
	var id, lat, lon int64
	err := fields(b, func(f field) error {
		switch f.num {
		case 1:
			id = protowire.DecodeZigZag(f.varint)
		case 8:
			lat = protowire.DecodeZigZag(f.varint)
		case 9:
			lon = protowire.DecodeZigZag(f.varint)
		}
		return d.keysAndValues(f)
	})
	if err != nil {
		return err
	}
	n := &d.node
	n.ID = id
	if n.Lat, n.Lon, err = d.place(lat, lon); err != nil {
		return err
	}
	if n.Tags, err = d.tags(n.Tags[:0]); err != nil {
		return err
	}
	return visitor(d.v.Node(n))
}

// dense reads a block of nodes in columns. Tags are key, value, key, value, 0 for each node in turn.
func (d *decoder) dense(b []byte) error {
	d.ids, d.lat, d.ln, d.keys = d.ids[:0], d.lat[:0], d.ln[:0], d.keys[:0]
	err := fields(b, func(f field) (err error) {
		switch f.num {
		case 1:
			d.ids, err = deltas(d.ids, f.bytes)
		case 8:
			d.lat, err = deltas(d.lat, f.bytes)
		case 9:
			d.ln, err = deltas(d.ln, f.bytes)
		case 10:
			d.keys, err = packed(d.keys, f.bytes)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(d.lat) != len(d.ids) || len(d.ln) != len(d.ids) {
		return fmt.Errorf("%d nodes with %d latitudes and %d longitudes", len(d.ids), len(d.lat), len(d.ln))
	}
	rest, n := d.keys, &d.node
	for i, id := range d.ids {
		n.ID, n.Tags = id, n.Tags[:0]
		if n.Lat, n.Lon, err = d.place(d.lat[i], d.ln[i]); err != nil {
			return err
		}
		if rest, err = d.denseTags(rest); err != nil {
			return err
		}
		if err = visitor(d.v.Node(n)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) denseTags(rest []uint64) ([]uint64, error) {
	for len(rest) > 0 {
		if rest[0] == 0 {
			return rest[1:], nil
		}
		if len(rest) < 2 {
			return nil, errShort
		}
		k, err := d.str(rest[0])
		if err != nil {
			return nil, err
		}
		v, err := d.str(rest[1])
		if err != nil {
			return nil, err
		}
		d.node.Tags, rest = append(d.node.Tags, Tag{k, v}), rest[2:]
	}
	return rest, nil
}

func (d *decoder) oneWay(b []byte) error {
	d.keys, d.vals = d.keys[:0], d.vals[:0]
	w := &d.way
	w.ID, w.Refs = 0, w.Refs[:0]
	err := fields(b, func(f field) (err error) {
		switch f.num {
		case 1:
			w.ID = int64(f.varint)
		case 8:
			w.Refs, err = deltas(w.Refs, f.bytes)
		default:
			err = d.keysAndValues(f)
		}
		return err
	})
	if err != nil {
		return err
	}
	if w.Tags, err = d.tags(w.Tags[:0]); err != nil {
		return err
	}
	return visitor(d.v.Way(w))
}

func (d *decoder) oneRelation(b []byte) error {
	d.keys, d.vals, d.ids = d.keys[:0], d.vals[:0], d.ids[:0]
	var roles, kinds []uint64
	r := &d.relation
	r.ID, r.Members = 0, r.Members[:0]
	err := fields(b, func(f field) (err error) {
		switch f.num {
		case 1:
			r.ID = int64(f.varint)
		case 8:
			roles, err = packed(roles, f.bytes)
		case 9:
			d.ids, err = deltas(d.ids, f.bytes)
		case 10:
			kinds, err = packed(kinds, f.bytes)
		default:
			err = d.keysAndValues(f)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(roles) != len(d.ids) || len(kinds) != len(d.ids) {
		return fmt.Errorf("%d members with %d roles and %d kinds", len(d.ids), len(roles), len(kinds))
	}
	for i, id := range d.ids {
		role, err := d.str(roles[i])
		if err != nil {
			return err
		}
		if kinds[i] > uint64(RelationMember) {
			return fmt.Errorf("a member of kind %d", kinds[i])
		}
		r.Members = append(r.Members, Member{id, MemberKind(kinds[i]), role})
	}
	if r.Tags, err = d.tags(r.Tags[:0]); err != nil {
		return err
	}
	return visitor(d.v.Relation(r))
}
