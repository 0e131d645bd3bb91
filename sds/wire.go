package sds

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
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

var errWire = errors.New("a message that cannot be read")

// field is one field of a message: a number (varint or fixed64) or bytes, which belong to the message.
type field struct {
	number uint64
	bytes  []byte
}

// fields calls f with the fields of a message in their order. Groups, which nothing here uses, are refused.
func fields(b []byte, f func(protowire.Number, field) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errWire
		}
		b = b[n:]
		var v field
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
			return errWire
		}
		if n < 0 {
			return errWire
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

func appendText[T ~string | []byte](b []byte, num protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

// packedAsk is an Ask whose question is not read yet.
type packedAsk struct {
	id                   uint64
	question, capability []byte
	timeout              uint64 // milliseconds
}

func appendAsk(b []byte, a packedAsk) []byte {
	b = appendNumber(b, askID, a.id)
	b = protowire.AppendVarint(protowire.AppendTag(b, askQuestion, protowire.BytesType), uint64(len(a.question)))
	b = append(b, a.question...)
	b = appendNumber(b, askTimeout, a.timeout)
	return appendText(b, askCapability, a.capability)
}

func parseAsk(b []byte) (a packedAsk, err error) {
	err = fields(b, func(num protowire.Number, v field) error {
		switch num {
		case askID:
			a.id = v.number
		case askQuestion:
			a.question = v.bytes
		case askTimeout:
			a.timeout = uint64(uint32(v.number))
		case askCapability:
			a.capability = v.bytes
		}
		return nil
	})
	return a, err
}

// text is a field that must be UTF-8, as proto3 has it.
func text(v field) (string, error) {
	if !utf8.Valid(v.bytes) {
		return "", errWire
	}
	return string(v.bytes), nil
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
	err = fields(b, func(num protowire.Number, v field) (err error) {
		switch num {
		case foundOwner:
			f.owner, err = text(v)
		case foundName:
			f.name, err = text(v)
		case foundVersion:
			f.version = v.number
		case foundDescription:
			f.description = v.bytes
		case foundSignature:
			f.signature = v.bytes
		case foundChain:
			f.chain = append(f.chain, v.bytes)
		case foundNumbers:
			if f.numbers == nil {
				f.numbers = make(map[string]float64)
			}
			return parseNumber(v.bytes, f.numbers)
		case foundAge:
			f.age = v.number
		case foundValues:
			var values []string
			values, err = parseValues(v.bytes)
			f.values = append(f.values, values)
		case foundHandle:
			f.handle = v.number
		case foundChainHandle:
			f.chainHandle = v.number
		}
		return err
	})
	return f, err
}

// parseNumber reads an entry of Found.numbers.
func parseNumber(b []byte, into map[string]float64) error {
	var name string
	var value float64
	err := fields(b, func(num protowire.Number, v field) (err error) {
		switch num {
		case numberName:
			name, err = text(v)
		case numberValue:
			value = math.Float64frombits(v.number)
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
	err = fields(b, func(num protowire.Number, v field) error {
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
	return fields(b, func(num protowire.Number, v field) (err error) {
		switch num {
		case answerID:
			a.id = v.number
		case answerFound:
			a.found = append(a.found, v.bytes)
		case answerLast:
			a.last = v.number != 0
		case answerCount:
			a.count = v.number
		case answerMore:
			a.more = v.number != 0
		case answerCode:
			a.code = uint64(uint32(v.number))
		case answerError:
			a.problem, err = text(v)
		case answerExplain:
			a.explain = v.bytes
		case answerCursor:
			a.cursor = v.bytes
		}
		return err
	})
}
