// Package pbf reads OpenStreetMap's PBF files (https://wiki.openstreetmap.org/wiki/PBF_Format): nodes, ways and
// relations, one at a time, in one goroutine, with every length checked before memory is taken for it. A file that is
// cut off, hostile or of a form nobody writes ends in an error, never in a panic.
package pbf

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds of the format: its specification allows no more.
const (
	maxHeader = 64 << 10
	maxBlob   = 32 << 20
)

// Node is a point. Coordinates are in units of 1e-7 degrees.
type Node struct {
	ID       int64
	Lat, Lon int32
	Tags     Tags
}

// Way is a line or an outline.
type Way struct {
	ID   int64
	Refs []int64 // ids of its nodes
	Tags Tags
}

// Relation joins other things in roles.
type Relation struct {
	ID      int64
	Members []Member
	Tags    Tags
}

// Member is one member of a relation.
type Member struct {
	ID   int64
	Kind MemberKind
	Role string
}

// MemberKind says what a member is.
type MemberKind uint8

// Kinds of members, numbered as in the format.
const (
	NodeMember MemberKind = iota
	WayMember
	RelationMember
)

// Tags are the properties of a thing, in the order of the file.
type Tags []Tag

// Tag is one property.
type Tag struct{ Key, Value string }

// Get returns the value of key, "" when there is none.
func (t Tags) Get(key string) string {
	for _, tag := range t {
		if tag.Key == key {
			return tag.Value
		}
	}
	return ""
}

// Visitor is told what is in a file. What is nil is skipped cheaply. The arguments and all slices in them are only valid
// during the call; strings stay valid but hold the memory of the block they came from, so clone the few that are kept.
type Visitor struct {
	Node     func(*Node) error
	Way      func(*Way) error
	Relation func(*Relation) error
}

// Read reads a whole file. It stops at the first error of a visitor and returns it as it is.
func Read(r io.Reader, v Visitor) error {
	d := decoder{r: r, v: v}
	for {
		kind, body, err := d.block()
		if errors.Is(err, io.EOF) {
			if d.blocks == 0 {
				return errors.New("the file is empty: want OpenStreetMap data in PBF form (.osm.pbf)")
			}
			return nil
		}
		if err == nil {
			err = d.decode(kind, body)
		}
		if v := (*stop)(nil); errors.As(err, &v) {
			return v.error
		}
		if err != nil {
			return fmt.Errorf("PBF block %d at byte %d: %w", d.blocks, d.offset, err)
		}
		d.blocks++
	}
}

// stop carries a visitor's error through.
type stop struct{ error }

func visitor(err error) error {
	if err == nil {
		return nil
	}
	return &stop{err}
}

type decoder struct {
	r      io.Reader
	v      Visitor
	blocks int
	offset int64
	read   int64 // bytes

	in, raw      []byte
	zr           io.ReadCloser
	strings      []string
	gran         int64
	latOff       int64
	lonOff       int64
	way          Way
	node         Node
	relation     Relation
	ids, lat, ln []int64
	keys, vals   []uint64
}

// block reads one file block: a length, a header that says kind and size, and the blob, which it inflates.
func (d *decoder) block() (kind string, body []byte, err error) {
	d.offset = d.read
	var size [4]byte
	if _, err = io.ReadFull(d.r, size[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the file is cut off")
		}
		return "", nil, err
	}
	n := int64(binary.BigEndian.Uint32(size[:]))
	if n > maxHeader {
		return "", nil, fmt.Errorf("a header of %d bytes, at most %d are allowed: this is not a PBF file", n, maxHeader)
	}
	header, err := d.take(n)
	if err != nil {
		return "", nil, err
	}
	blob := int64(0)
	if err = fields(header, func(f field) error {
		switch f.num {
		case 1:
			kind = string(f.bytes)
		case 3:
			blob = int64(f.varint)
		}
		return nil
	}); err != nil {
		return "", nil, err
	}
	if blob < 0 || blob > maxBlob {
		return "", nil, fmt.Errorf("a block of %d bytes, at most %d are allowed", blob, maxBlob)
	}
	d.read += 4 + n + blob
	in, err := d.take(blob)
	if err != nil {
		return "", nil, err
	}
	body, err = d.inflate(in)
	return kind, body, err
}

// take reads n bytes into the reused buffer. It grows with what really comes, not with what is announced.
func (d *decoder) take(n int64) ([]byte, error) {
	buf := bytes.NewBuffer(d.in[:0])
	got, err := io.Copy(buf, io.LimitReader(d.r, n))
	d.in = buf.Bytes()
	if err == nil && got < n {
		err = errors.New("the file is cut off")
	}
	return d.in, err
}

func (d *decoder) inflate(blob []byte) ([]byte, error) {
	var raw, packed []byte
	size, form := int64(0), protowire.Number(0)
	err := fields(blob, func(f field) error {
		switch f.num {
		case 1:
			raw = f.bytes
		case 2:
			size = int64(f.varint)
		case 3:
			packed = f.bytes
		default:
			form = f.num
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case raw != nil:
		return raw, nil
	case packed == nil:
		return nil, fmt.Errorf("compressed in a form (field %d) other than zlib: convert the file with osmium cat", form)
	case size < 0 || size > maxBlob:
		return nil, fmt.Errorf("a block of %d bytes, at most %d are allowed", size, maxBlob)
	}
	if d.zr == nil {
		d.zr, err = zlib.NewReader(bytes.NewReader(packed))
	} else {
		err = d.zr.(zlib.Resetter).Reset(bytes.NewReader(packed), nil)
	}
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(d.raw[:0])
	got, err := io.Copy(buf, io.LimitReader(d.zr, size+1))
	d.raw = buf.Bytes()
	if err == nil && got != size {
		err = fmt.Errorf("the block inflates to another size than the %d bytes it states", size)
	}
	return d.raw, err
}

func (d *decoder) decode(kind string, body []byte) error {
	switch {
	case d.blocks == 0 && kind != "OSMHeader":
		return fmt.Errorf("begins with a block %.40q, not with OSMHeader: this is not a PBF file", kind)
	case kind == "OSMHeader":
		return fields(body, func(f field) error {
			if f.num != 4 {
				return nil
			}
			switch string(f.bytes) {
			case "OsmSchema-V0.6", "DenseNodes":
				return nil
			}
			return fmt.Errorf("the file needs the feature %.40q, which is not supported", f.bytes)
		})
	case kind == "OSMData":
		return d.primitives(body)
	}
	return nil // other kinds are to be skipped
}

// primitives reads a PrimitiveBlock: first its strings and scales, then its groups.
func (d *decoder) primitives(body []byte) error {
	d.strings, d.gran, d.latOff, d.lonOff = d.strings[:0], 100, 0, 0
	err := fields(body, func(f field) error {
		switch f.num {
		case 1:
			return d.table(f.bytes)
		case 17:
			d.gran = int64(int32(f.varint))
		case 19:
			d.latOff = int64(f.varint)
		case 20:
			d.lonOff = int64(f.varint)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return fields(body, func(f field) error {
		if f.num == 2 {
			return fields(f.bytes, d.element)
		}
		return nil
	})
}

// table reads the string table into one string that all others are parts of.
func (d *decoder) table(b []byte) error {
	all := string(b)
	return fields(b, func(f field) error {
		if f.num == 1 {
			d.strings = append(d.strings, all[f.at:f.at+len(f.bytes)])
		}
		return nil
	})
}

func (d *decoder) element(f field) error {
	switch {
	case f.num == 1 && d.v.Node != nil:
		return d.plain(f.bytes)
	case f.num == 2 && d.v.Node != nil:
		return d.dense(f.bytes)
	case f.num == 3 && d.v.Way != nil:
		return d.oneWay(f.bytes)
	case f.num == 4 && d.v.Relation != nil:
		return d.oneRelation(f.bytes)
	}
	return nil
}
