package rtp

import (
	"errors"
	"time"
	"unicode/utf8"
)

// Text as people type it (T.140) in RTP (RFC 4103): the clock is 1,000 a second, and every packet repeats what the two
// before it said (RFC 2198), so that loss of two packets in a row loses nothing.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|1|  T.140 PT   |      timestamp offset     |   block length    |  for each repeated block, the oldest first
//	|0|  T.140 PT   |  then the repeated blocks and the new one
//	+-+-+-+-+-+-+-+-+
const (
	t140Rate = 1000
	// generations is how many blocks a packet repeats.
	generations = 2
	// maxBlock bounds a block: it must fit in a packet with those it repeats, and in the ten bits of its length.
	maxBlock = 320
	// maxOffset is the greatest timestamp offset that the fourteen bits hold.
	maxOffset = 1<<14 - 1
	// textEvery is how long text waits for what follows it before it is repeated in a packet of its own (RFC 4103, 5.1).
	textEvery = 300 * time.Millisecond
	// missingText stands for text that was lost (RFC 4103, 5.4).
	missingText = "\uFFFD"
)

var errRedundant = errors.New("malformed redundant text")

// block is text with its time, in ms from the start of the stream.
type block struct {
	time int64
	text []byte
}

// redundancy remembers what the last packets said. It is pure.
type redundancy struct {
	payloadType uint8
	recent      []block // the oldest first
}

// pack appends the payload of the packet that says text at the time, and repeats what came before. Empty text only
// repeats.
func (r *redundancy) pack(b []byte, at int64, text []byte) []byte {
	for _, old := range r.recent {
		offset := at - old.time
		if offset < 0 || offset > maxOffset {
			continue
		}
		n := uint32(offset)<<10 | uint32(len(old.text))
		b = append(b, 1<<7|r.payloadType, byte(n>>16), byte(n>>8), byte(n))
	}
	b = append(b, r.payloadType)
	for _, old := range r.recent {
		if offset := at - old.time; offset >= 0 && offset <= maxOffset {
			b = append(b, old.text...)
		}
	}
	b = append(b, text...)
	if len(r.recent) == generations {
		r.recent = append(r.recent[:0], r.recent[1:]...)
	}
	r.recent = append(r.recent, block{at, append([]byte(nil), text...)})
	return b
}

// owes reports whether anything was not repeated as often as it must be.
func (r *redundancy) owes() bool {
	for _, old := range r.recent {
		if len(old.text) > 0 {
			return true
		}
	}
	return false
}

// unpack splits a payload: the blocks that are repeated, oldest first, and the new one last. Times are relative to the
// packet's. The texts are part of b.
func unpack(b []byte, payloadType uint8) ([]block, error) {
	var blocks []block
	var sizes []int
	for {
		if len(b) < 1 || b[0]&0x7f != payloadType || len(sizes) > 8 {
			return nil, errRedundant
		}
		if b[0]&0x80 == 0 {
			b = b[1:]
			break
		}
		if len(b) < 4 {
			return nil, errRedundant
		}
		n := uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		blocks = append(blocks, block{time: -int64(n >> 10)})
		sizes = append(sizes, int(n&0x3ff))
		b = b[4:]
	}
	for i, n := range sizes {
		if n > len(b) {
			return nil, errRedundant
		}
		blocks[i].text, b = b[:n], b[n:]
	}
	return append(blocks, block{text: b}), nil
}

// cutText is how many bytes of the text make its next block: whole characters where it is UTF-8.
func cutText(text []byte, most int) int {
	if len(text) <= most {
		return len(text)
	}
	n := most
	for n > most-utf8.UTFMax && !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}
