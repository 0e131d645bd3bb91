package tree

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ninja/sds/route"
	"ninja/sds/tree/treepb"
)

// The frames that a link carries many of, Ask and Answer, are packed and read by hand, and what a server only passes on
// stays packed: generated code makes dozens of objects of each at every server on the way. What they look like is said in
// treepb/tree.proto, whose field numbers these are.
const (
	frameAsk, frameAnswer, frameCancel, frameCredit = 6, 7, 8, 12

	askID, askQuery, askQuestion, askScope, askWant, askHierarchy, askDomain          = 1, 2, 3, 4, 5, 6, 7
	askHops, askTimeout, askFanout, askTokens, askCapability, askProof, askWay        = 8, 9, 10, 11, 12, 13, 14
	askWatch, askNarrowed, askWindow                                                  = 15, 16, 17
	answerID, answerHits, answerOutcomes, answerLast, answerCode, answerError         = 1, 2, 3, 4, 5, 6
	answerSealed, answerGone, answerSynced, answerBegun, answerSettled                = 7, 8, 9, 10, 11
	hitFound, hitRank, hitValue, hitText, hitServer                                   = 1, 2, 3, 4, 5
	foundOwner, foundName, foundVersion                                               = 1, 2, 3
	outcomeServer, outcomeVia, outcomeHierarchy, outcomeUp, outcomeStatus             = 1, 2, 3, 4, 5
	outcomeStale, outcomeAge, outcomeFound, outcomeTook, outcomeHidden, outcomeDetail = 6, 7, 8, 9, 10, 11
)

// Bounds of a frame, beside those of its bytes (messageMost).
const (
	hitsMost     = 16 << 10 // in one answer
	outcomesEach = 16 << 10 // likewise
	narrowedMost = 8
)

var errFrame = errors.New("a frame that cannot be read")

// part is one field of a message: a number (varint or fixed) or bytes, which belong to the message.
type part struct {
	number uint64
	bytes  []byte
}

// parts calls f with the fields of a message in their order. Groups, which nothing here uses, are refused.
func parts(b []byte, f func(protowire.Number, part) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errFrame
		}
		b = b[n:]
		var v part
		switch kind {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		case protowire.Fixed64Type:
			v.number, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			_, n = protowire.ConsumeFixed32(b)
		default:
			return errFrame
		}
		if n < 0 {
			return errFrame
		}
		b = b[n:]
		if err := f(num, v); err != nil {
			return err
		}
	}
	return nil
}

func appendNumber(b []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendText[T ~string | ~[]byte](b []byte, num protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return appendBytes(b, num, v)
}

// appendBytes is appendText for an element of a list, which may be empty.
func appendBytes[T ~string | ~[]byte](b []byte, num protowire.Number, v T) []byte {
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

func bit(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// words keeps the few words that come with every question, so that they are made once. It belongs to one goroutine.
type words map[string]string

const wordsMost = 64

func (n words) of(b []byte) string {
	if s, ok := n[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(n) < wordsMost && len(s) <= 256 {
		n[s] = s
	}
	return s
}

// appendAsk packs a question.
func appendAsk(b []byte, a *treepb.Ask) ([]byte, error) {
	b = appendNumber(b, askID, a.GetId())
	b = appendText(b, askQuery, a.GetQuery())
	b = appendText(b, askQuestion, a.GetQuestion())
	b = appendNumber(b, askScope, uint64(a.GetScope()))
	b = appendNumber(b, askWant, uint64(a.GetWant()))
	b = appendText(b, askHierarchy, a.GetHierarchy())
	b = appendText(b, askDomain, a.GetDomain())
	b = appendNumber(b, askHops, uint64(a.GetHops()))
	b = appendNumber(b, askTimeout, uint64(a.GetTimeoutMs()))
	b = appendNumber(b, askFanout, uint64(a.GetFanout()))
	if n := len(a.GetTokens()); n > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, askTokens, protowire.BytesType), uint64(8*n))
		for _, t := range a.GetTokens() {
			b = binary.LittleEndian.AppendUint64(b, t)
		}
	}
	b = appendText(b, askCapability, a.GetCapability())
	if a.GetProof() != nil {
		p, err := proto.Marshal(a.GetProof())
		if err != nil {
			return nil, err
		}
		b = appendBytes(b, askProof, p)
	}
	for _, w := range a.GetWay() {
		b = appendBytes(b, askWay, w)
	}
	b = appendNumber(b, askWatch, bit(a.GetWatch()))
	for _, t := range a.GetNarrowed() {
		b = appendBytes(b, askNarrowed, t)
	}
	return appendNumber(b, askWindow, uint64(a.GetWindow())), nil
}

// parseAsk reads a question; its bytes are parts of b.
func parseAsk(b []byte, known words) (*treepb.Ask, error) {
	a := new(treepb.Ask)
	err := parts(b, func(num protowire.Number, v part) error {
		switch num {
		case askID:
			a.Id = v.number
		case askQuery:
			a.Query = v.bytes
		case askQuestion:
			a.Question = v.bytes
		case askScope:
			a.Scope = uint32(v.number)
		case askWant:
			a.Want = uint32(v.number)
		case askHierarchy:
			a.Hierarchy = known.of(v.bytes)
		case askDomain:
			a.Domain = known.of(v.bytes)
		case askHops:
			a.Hops = uint32(v.number)
		case askTimeout:
			a.TimeoutMs = uint32(v.number)
		case askFanout:
			a.Fanout = uint32(v.number)
		case askCapability:
			a.Capability = v.bytes
		case askWatch:
			a.Watch = v.number != 0
		case askWindow:
			a.Window = uint32(v.number)
		default:
			return parseAskList(a, num, v, known)
		}
		return nil
	})
	return a, err
}

// parseAskList reads the fields of a question of which there may be several.
func parseAskList(a *treepb.Ask, num protowire.Number, v part, known words) error {
	switch num {
	case askTokens:
		packed := v.bytes
		if packed == nil { // one on its own
			packed = binary.LittleEndian.AppendUint64(nil, v.number)
		}
		if len(packed)%8 != 0 || len(a.Tokens)+len(packed)/8 > tokensMost {
			return fmt.Errorf("%w: more than %d tokens", errFrame, tokensMost)
		}
		for ; len(packed) > 0; packed = packed[8:] {
			a.Tokens = append(a.Tokens, binary.LittleEndian.Uint64(packed))
		}
	case askProof:
		if a.Proof == nil {
			a.Proof = new(treepb.Proof)
		}
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(v.bytes, a.Proof)
	case askWay:
		if len(a.Way) == route.HopsMost {
			return fmt.Errorf("%w: a way of more than %d servers", errFrame, route.HopsMost)
		}
		a.Way = append(a.Way, known.of(v.bytes))
	case askNarrowed:
		if len(a.Narrowed) == narrowedMost {
			return fmt.Errorf("%w: narrowed by more than %d templates", errFrame, narrowedMost)
		}
		a.Narrowed = append(a.Narrowed, v.bytes)
	}
	return nil
}

// creditFrame is the frame of a Credit.
func creditFrame(id uint64, bytes int) []byte {
	b := make([]byte, head, head+24)
	b = appendNumber(b, 1, id)
	return frameAround(frameCredit, appendNumber(b, 2, uint64(bytes)))
}

func parseCredit(b []byte) (id uint64, bytes int, err error) {
	err = parts(b, func(num protowire.Number, v part) error {
		switch num {
		case 1:
			id = v.number
		case 2:
			bytes = int(min(v.number, creditMost))
		}
		return nil
	})
	return id, bytes, err
}

// creditMost is the most that one credit is good for.
const creditMost = 1 << 30

// answer is an Answer whose parts stay packed; they are parts of the message that it came in.
type answer struct {
	id                     uint64
	hits, outcomes, sealed [][]byte
	last                   bool
	code                   uint32
	problem                string
	whole                  []byte    // as it came, for those who read all of it: a watch
	gathered               bool      // its hits are those that are news
	few                    [8][]byte // where the first of the lists stand
}

// appendAnswer packs an answer.
func appendAnswer(b []byte, a *answer) []byte {
	b = appendNumber(b, answerID, a.id)
	for _, h := range a.hits {
		b = appendBytes(b, answerHits, h)
	}
	for _, o := range a.outcomes {
		b = appendBytes(b, answerOutcomes, o)
	}
	b = appendNumber(b, answerLast, bit(a.last))
	b = appendNumber(b, answerCode, uint64(a.code))
	b = appendText(b, answerError, a.problem)
	for _, s := range a.sealed {
		b = appendBytes(b, answerSealed, s)
	}
	return b
}

// parseAnswer reads an answer.
func parseAnswer(b []byte) (*answer, error) {
	a := &answer{whole: b}
	a.hits, a.outcomes = a.few[:0:2], a.few[2:2:8]
	err := parts(b, func(num protowire.Number, v part) error {
		switch num {
		case answerID:
			a.id = v.number
		case answerHits:
			a.hits = append(a.hits, v.bytes)
		case answerOutcomes:
			a.outcomes = append(a.outcomes, v.bytes)
		case answerSealed:
			a.sealed = append(a.sealed, v.bytes)
		case answerLast:
			a.last = v.number != 0
		case answerCode:
			a.code = uint32(v.number)
		case answerError:
			a.problem = string(v.bytes)
		}
		if len(a.hits)+len(a.sealed) > hitsMost || len(a.outcomes) > outcomesEach {
			return fmt.Errorf("%w: an answer of more than %d hits or outcomes", errFrame, hitsMost)
		}
		return nil
	})
	return a, err
}

// room is about how many bytes the answer takes when it is packed.
func (a *answer) room() int {
	n := 32 + len(a.problem)
	for _, list := range [][][]byte{a.hits, a.outcomes, a.sealed} {
		for _, b := range list {
			n += len(b) + 4
		}
	}
	return n
}

// empty reports whether an answer says nothing.
func (a *answer) empty() bool { return len(a.hits)+len(a.outcomes)+len(a.sealed) == 0 }

// failure is why the question was not answered, if it was not.
func (a *answer) failure() error {
	if a.code == 0 {
		return nil
	}
	return status.Error(codes.Code(a.code), a.problem)
}

// message is the answer with all that a watch tells.
func (a *answer) message() (*treepb.Answer, error) {
	m := new(treepb.Answer)
	return m, proto.Unmarshal(a.whole, m)
}
