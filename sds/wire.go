package sds

import (
	"encoding/binary"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"ninja/sds/packed"
)

// The messages that a session carries many of, Ask, SessionResponse and Found, are packed and read by hand: generated
// code makes a dozen objects of each. What they look like is said in sdspb/sds.proto, whose field numbers these are.
const (
	askID, askQuestion, askTimeout, askCapability = 1, 2, 3, 4

	answerID, answerFound, answerLast, answerCount, answerMore = 1, 2, 3, 4, 5
	answerCode, answerError, answerExplain, answerCursor       = 6, 7, 8, 9
	foundOwner, foundName, foundVersion, foundDescription      = 1, 2, 3, 4
	foundSignature, foundChain, foundNumbers, foundAge         = 5, 6, 7, 8
	foundValues, foundHandle, foundChainHandle, numberName     = 9, 10, 11, 1
	numberValue, valuesValue                                   = 2, 1
	wireVersion                                                = 1 // of what Hello.speaks and SessionResponse.speaks say
)

// packedAsk is an Ask whose question is not read yet.
type packedAsk struct {
	id                   uint64
	question, capability []byte
	timeout              uint64 // milliseconds
}

func appendAsk(b []byte, a packedAsk) []byte {
	b = packed.AppendNumber(b, askID, a.id)
	b = protowire.AppendVarint(protowire.AppendTag(b, askQuestion, protowire.BytesType), uint64(len(a.question)))
	b = append(b, a.question...)
	b = packed.AppendNumber(b, askTimeout, a.timeout)
	return packed.AppendText(b, askCapability, a.capability)
}

func parseAsk(b []byte) (a packedAsk, err error) {
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		switch num {
		case askID:
			a.id = v.Number
		case askQuestion:
			a.question = v.Bytes
		case askTimeout:
			a.timeout = uint64(uint32(v.Number))
		case askCapability:
			a.capability = v.Bytes
		}
		return nil
	})
	return a, err
}

// text is a field that must be UTF-8, as proto3 has it.
func text(v packed.Field) (string, error) {
	if !utf8.Valid(v.Bytes) {
		return "", packed.ErrUnreadable
	}
	return string(v.Bytes), nil
}

// wireFound is a Found as it was sent.
type wireFound struct {
	owner, name            string
	description, signature []byte // parts of the message
	version, age           uint64
	chain                  [][]byte // likewise
	numbers                map[string]float64
	values                 [][]string
	handle, chainHandle    uint64
}

func parseFound(b []byte) (f wireFound, err error) {
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) (err error) {
		switch num {
		case foundOwner:
			f.owner, err = text(v)
		case foundName:
			f.name, err = text(v)
		case foundVersion:
			f.version = v.Number
		case foundDescription:
			f.description = v.Bytes
		case foundSignature:
			f.signature = v.Bytes
		case foundChain:
			f.chain = append(f.chain, v.Bytes)
		case foundNumbers:
			if f.numbers == nil {
				f.numbers = make(map[string]float64)
			}
			return parseNumber(v.Bytes, f.numbers)
		case foundAge:
			f.age = v.Number
		case foundValues:
			var values []string
			values, err = parseValues(v.Bytes)
			f.values = append(f.values, values)
		case foundHandle:
			f.handle = v.Number
		case foundChainHandle:
			f.chainHandle = v.Number
		}
		return err
	})
	return f, err
}

// parseNumber reads an entry of Found.numbers.
func parseNumber(b []byte, into map[string]float64) error {
	var name string
	var value float64
	err := packed.Fields(b, func(num protowire.Number, v packed.Field) (err error) {
		switch num {
		case numberName:
			name, err = text(v)
		case numberValue:
			value = math.Float64frombits(v.Number)
		}
		return err
	})
	into[name] = value
	return err
}

func appendNumbers(b []byte, numbers map[string]float64) []byte {
	for name, value := range numbers {
		size := 1 + protowire.SizeBytes(len(name)) + 9
		b = protowire.AppendVarint(protowire.AppendTag(b, foundNumbers, protowire.BytesType), uint64(size))
		b = protowire.AppendString(protowire.AppendTag(b, numberName, protowire.BytesType), name)
		b = protowire.AppendTag(b, numberValue, protowire.Fixed64Type)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(value))
	}
	return b
}

func parseValues(b []byte) (values []string, err error) {
	err = packed.Fields(b, func(num protowire.Number, v packed.Field) error {
		if num != valuesValue {
			return nil
		}
		value, err := text(v)
		values = append(values, value)
		return err
	})
	return values, err
}

// appendChain packs a chain as Found holds it.
func appendChain(b []byte, chain [][]byte) []byte {
	for _, c := range chain {
		b = protowire.AppendBytes(protowire.AppendTag(b, foundChain, protowire.BytesType), c)
	}
	return b
}

// packedAnswer is a SessionResponse whose services are not read yet. All bytes are parts of the message.
type packedAnswer struct {
	id, count, code uint64
	found           [][]byte
	last, more      bool
	problem         string
	explain, cursor []byte
}

func parseAnswer(b []byte) (a packedAnswer, err error) {
	err = a.parse(b)
	return a, err
}

// parse reads an answer in the place of another.
func (a *packedAnswer) parse(b []byte) error {
	*a = packedAnswer{found: a.found[:0]}
	return packed.Fields(b, func(num protowire.Number, v packed.Field) (err error) {
		switch num {
		case answerID:
			a.id = v.Number
		case answerFound:
			a.found = append(a.found, v.Bytes)
		case answerLast:
			a.last = v.Number != 0
		case answerCount:
			a.count = v.Number
		case answerMore:
			a.more = v.Number != 0
		case answerCode:
			a.code = uint64(uint32(v.Number))
		case answerError:
			a.problem, err = text(v)
		case answerExplain:
			a.explain = v.Bytes
		case answerCursor:
			a.cursor = v.Bytes
		}
		return err
	})
}
