// Package trunk carries the datagrams of many hops between two processes as one: bundled into datagrams of one size,
// sealed under one key, handed to the kernel many at a time (UDP_SEGMENT) and taken from it many at a time (UDP_GRO).
// Where the kernel or the network does not offload, datagrams go one by one.
//
// A payload leaves at once while few come; where company is to be expected it waits for it, 1 ms at most.
//
// A trunk is one way: a TLS session of its own, whose exporter gives the key, bound to a stream and an epoch that are
// drawn for it. Nothing is sent again. That each stream's order and loss are its own concern is what the streams that ride
// on it (rtp, udp) know already.
package trunk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"ninja/ca/seal"
	"ninja/connectors/hop"
)

// A datagram is sealed (package seal). The payload of the seal is a bundle of frames, each:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-----------------------------+-------------------------------+
//	|1|          length (15)        |         stream (64) ...       |
//	+-+-----------------------------+-------------------------------+
//	|                                                               |
//	+-------------------------------+-------------------------------+
//	|                               |         epoch (32) ...        |
//	+-------------------------------+-------------------------------+
//	|                               |   the stream's datagram ...
//	+-------------------------------+--------------------------------
//
// Where the first bit is zero the bundle ends: the rest is there to make datagrams equally long, as UDP_SEGMENT wants it.
const (
	frameHeader = 14
	present     = 1 << 15
	exportLabel = "EXPORTER-ninja-trunk"
	// kindBundle is the kind of the sealed datagram.
	kindBundle = 3
	// MaxPayload is the longest datagram of a stream, in bytes.
	MaxPayload = seal.MaxPayload - frameHeader
)

func secrets(s *hop.Session) (key []byte, handle uint64, err error) {
	b, err := s.Export(exportLabel, seal.KeySize+8)
	if err != nil {
		return nil, 0, fmt.Errorf("derive the key of the trunk: %w", err)
	}
	return b[:seal.KeySize], binary.BigEndian.Uint64(b[seal.KeySize:]), nil
}

func appendFrame(b []byte, stream uint64, epoch uint32, payload []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, present|uint16(len(payload)))
	b = binary.BigEndian.AppendUint64(b, stream)
	b = binary.BigEndian.AppendUint32(b, epoch)
	return append(b, payload...)
}

var errBundle = errors.New("malformed bundle")

// parseFrame splits off the first frame of a bundle; ok is false at its end. The payload is part of b.
func parseFrame(b []byte) (stream uint64, epoch uint32, payload, rest []byte, ok bool, err error) {
	if len(b) == 0 || b[0]&(present>>8) == 0 {
		return 0, 0, nil, nil, false, nil
	}
	if len(b) < frameHeader {
		return 0, 0, nil, nil, false, errBundle
	}
	n := int(binary.BigEndian.Uint16(b) &^ present)
	if n > len(b)-frameHeader {
		return 0, 0, nil, nil, false, errBundle
	}
	end := frameHeader + n
	return binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint32(b[10:]), b[frameHeader:end:end], b[end:], true, nil
}

// udp returns the kernel's socket, where there is one.
func udp(c any) *net.UDPConn {
	u, _ := c.(*net.UDPConn)
	return u
}
