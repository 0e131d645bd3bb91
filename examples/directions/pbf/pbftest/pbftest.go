// Package pbftest writes small PBF files for tests.
package pbftest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"

	"ninja/examples/directions/pbf"
)

// Form says how a file is written.
type Form struct {
	Plain bool // nodes one by one, not in columns
	Raw   bool // not compressed
}

// File writes nodes, ways and relations.
func File(form Form, nodes []pbf.Node, ways []pbf.Way, relations []pbf.Relation) []byte {
	e := encoder{strings: [][]byte{nil}, index: map[string]uint64{}}
	var groups []byte
	if form.Plain {
		for _, n := range nodes {
			groups = message(groups, 2, message(nil, 1, e.plain(n)))
		}
	} else {
		groups = message(groups, 2, message(nil, 2, e.dense(nodes)))
	}
	for _, w := range ways {
		groups = message(groups, 2, message(nil, 3, e.way(w)))
	}
	for _, r := range relations {
		groups = message(groups, 2, message(nil, 4, e.relation(r)))
	}
	var table []byte
	for _, s := range e.strings {
		table = message(table, 1, s)
	}
	header := message(message(nil, 4, []byte("OsmSchema-V0.6")), 4, []byte("DenseNodes"))
	return append(block(form, "OSMHeader", header), block(form, "OSMData", append(message(nil, 1, table), groups...))...)
}

func block(form Form, kind string, body []byte) []byte {
	blob := message(nil, 1, body)
	if !form.Raw {
		var packed bytes.Buffer
		w := zlib.NewWriter(&packed)
		w.Write(body)
		w.Close()
		blob = message(number(nil, 2, uint64(len(body))), 3, packed.Bytes())
	}
	header := number(message(nil, 1, []byte(kind)), 3, uint64(len(blob)))
	all := binary.BigEndian.AppendUint32(nil, uint32(len(header)))
	return append(append(all, header...), blob...)
}

type encoder struct {
	strings [][]byte
	index   map[string]uint64
}

func (e *encoder) str(s string) uint64 {
	i, ok := e.index[s]
	if !ok {
		i = uint64(len(e.strings))
		e.strings, e.index[s] = append(e.strings, []byte(s)), i
	}
	return i
}

func (e *encoder) tags(to []byte, tags pbf.Tags) []byte {
	var keys, vals []byte
	for _, t := range tags {
		keys, vals = protowire.AppendVarint(keys, e.str(t.Key)), protowire.AppendVarint(vals, e.str(t.Value))
	}
	return message(message(to, 2, keys), 3, vals)
}

func (e *encoder) plain(n pbf.Node) []byte {
	b := number(nil, 1, protowire.EncodeZigZag(n.ID))
	b = number(b, 8, protowire.EncodeZigZag(int64(n.Lat)))
	b = number(b, 9, protowire.EncodeZigZag(int64(n.Lon)))
	return e.tags(b, n.Tags)
}

func (e *encoder) dense(nodes []pbf.Node) []byte {
	var ids, lats, lons []int64
	var tags []byte
	for _, n := range nodes {
		ids, lats, lons = append(ids, n.ID), append(lats, int64(n.Lat)), append(lons, int64(n.Lon))
		for _, t := range n.Tags {
			tags = protowire.AppendVarint(protowire.AppendVarint(tags, e.str(t.Key)), e.str(t.Value))
		}
		tags = append(tags, 0)
	}
	return message(message(message(message(nil, 1, deltas(ids)), 8, deltas(lats)), 9, deltas(lons)), 10, tags)
}

func (e *encoder) way(w pbf.Way) []byte {
	return message(e.tags(number(nil, 1, uint64(w.ID)), w.Tags), 8, deltas(w.Refs))
}

func (e *encoder) relation(r pbf.Relation) []byte {
	var roles, kinds []byte
	var ids []int64
	for _, m := range r.Members {
		roles, kinds = protowire.AppendVarint(roles, e.str(m.Role)), protowire.AppendVarint(kinds, uint64(m.Kind))
		ids = append(ids, m.ID)
	}
	b := e.tags(number(nil, 1, uint64(r.ID)), r.Tags)
	return message(message(message(b, 8, roles), 9, deltas(ids)), 10, kinds)
}

func deltas(values []int64) []byte {
	var b []byte
	last := int64(0)
	for _, v := range values {
		b, last = protowire.AppendVarint(b, protowire.EncodeZigZag(v-last)), v
	}
	return b
}

func message(to []byte, num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, num, protowire.BytesType), b)
}

func number(to []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(to, num, protowire.VarintType), v)
}
