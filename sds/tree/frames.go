package tree

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"ninja/sds/packed"
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

var errFrame = packed.ErrUnreadable

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
	b = packed.AppendNumber(b, askID, a.GetId())
	b = packed.AppendText(b, askQuery, a.GetQuery())
	b = packed.AppendText(b, askQuestion, a.GetQuestion())
	b = packed.AppendNumber(b, askScope, uint64(a.GetScope()))
	b = packed.AppendNumber(b, askWant, uint64(a.GetWant()))
	b = packed.AppendText(b, askHierarchy, a.GetHierarchy())
	b = packed.AppendText(b, askDomain, a.GetDomain())
	b = packed.AppendNumber(b, askHops, uint64(a.GetHops()))
	b = packed.AppendNumber(b, askTimeout, uint64(a.GetTimeoutMs()))
	b = packed.AppendNumber(b, askFanout, uint64(a.GetFanout()))
	if n := len(a.GetTokens()); n > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, askTokens, protowire.BytesType), uint64(8*n))
		for _, t := range a.GetTokens() {
			b = binary.LittleEndian.AppendUint64(b, t)
		}
	}
	b = packed.AppendText(b, askCapability, a.GetCapability())
	if a.GetProof() != nil {
		p, err := proto.Marshal(a.GetProof())
		if err != nil {
			return nil, err
		}
		b = packed.AppendBytes(b, askProof, p)
	}
	for _, w := range a.GetWay() {
		b = packed.AppendBytes(b, askWay, w)
	}
	b = packed.AppendNumber(b, askWatch, bit(a.GetWatch()))
	for _, t := range a.GetNarrowed() {
		b = packed.AppendBytes(b, askNarrowed, t)
	}
	return packed.AppendNumber(b, askWindow, uint64(a.GetWindow())), nil
}

// parseAsk reads a question; its bytes are parts of b.
func parseAsk(b []byte, known words) (*treepb.Ask, error) {
	a := new(treepb.Ask)
	err := packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case askID:
			a.Id = v.Number
		case askQuery:
			a.Query = v.Bytes
		case askQuestion:
			a.Question = v.Bytes
		case askScope:
			a.Scope = uint32(v.Number)
		case askWant:
			a.Want = uint32(v.Number)
		case askHierarchy:
			a.Hierarchy = known.of(v.Bytes)
		case askDomain:
			a.Domain = known.of(v.Bytes)
		case askHops:
			a.Hops = uint32(v.Number)
		case askTimeout:
			a.TimeoutMs = uint32(v.Number)
		case askFanout:
			a.Fanout = uint32(v.Number)
		case askCapability:
			a.Capability = v.Bytes
		case askWatch:
			a.Watch = v.Number != 0
		case askWindow:
			a.Window = uint32(v.Number)
		default:
			return parseAskList(a, num, v, known)
		}
		return nil
	})
	return a, err
}

// parseAskList reads the fields of a question of which there may be several.
func parseAskList(a *treepb.Ask, num protowire.Number, v packed.Field, known words) error {
	switch num {
	case askTokens:
		packed := v.Bytes
		if packed == nil { // one on its own
			packed = binary.LittleEndian.AppendUint64(nil, v.Number)
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
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(v.Bytes, a.Proof)
	case askWay:
		if len(a.Way) == route.HopsMost {
			return fmt.Errorf("%w: a way of more than %d servers", errFrame, route.HopsMost)
		}
		a.Way = append(a.Way, known.of(v.Bytes))
	case askNarrowed:
		if len(a.Narrowed) == narrowedMost {
			return fmt.Errorf("%w: narrowed by more than %d templates", errFrame, narrowedMost)
		}
		a.Narrowed = append(a.Narrowed, v.Bytes)
	}
	return nil
}

// creditFrame is the frame of a Credit.
func creditFrame(id uint64, bytes int) []byte {
	b := make([]byte, head, head+24)
	b = packed.AppendNumber(b, 1, id)
	return frameAround(frameCredit, packed.AppendNumber(b, 2, uint64(bytes)))
}

func parseCredit(b []byte) (id uint64, bytes int, err error) {
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case 1:
			id = v.Number
		case 2:
			bytes = int(min(v.Number, creditMost))
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
	b = packed.AppendNumber(b, answerID, a.id)
	for _, h := range a.hits {
		b = packed.AppendBytes(b, answerHits, h)
	}
	for _, o := range a.outcomes {
		b = packed.AppendBytes(b, answerOutcomes, o)
	}
	b = packed.AppendNumber(b, answerLast, bit(a.last))
	b = packed.AppendNumber(b, answerCode, uint64(a.code))
	b = packed.AppendText(b, answerError, a.problem)
	for _, s := range a.sealed {
		b = packed.AppendBytes(b, answerSealed, s)
	}
	return b
}

// parseAnswer reads an answer.
func parseAnswer(b []byte) (*answer, error) {
	a := &answer{whole: b}
	a.hits, a.outcomes = a.few[:0:2], a.few[2:2:8]
	err := packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case answerID:
			a.id = v.Number
		case answerHits:
			a.hits = append(a.hits, v.Bytes)
		case answerOutcomes:
			a.outcomes = append(a.outcomes, v.Bytes)
		case answerSealed:
			a.sealed = append(a.sealed, v.Bytes)
		case answerLast:
			a.last = v.Number != 0
		case answerCode:
			a.code = uint32(v.Number)
		case answerError:
			a.problem = string(v.Bytes)
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
