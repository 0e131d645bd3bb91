package audio

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"ninja/connectors"
	"ninja/operators"
)

// Mix changes the number of interleaved channels: to one channel by the mean, from one by copies. It appends to dst.
func Mix(dst, src []int16, from, to int) []int16 {
	for ; len(src) >= from; src = src[from:] {
		sum := 0
		for _, s := range src[:from] {
			sum += int(s)
		}
		for range to {
			dst = append(dst, int16(sum/from))
		}
	}
	return dst
}

// newChannels makes mono of many channels, or many of mono.
func newChannels(_ context.Context, env operators.Env) (operators.Operator, error) {
	from, err := FormatOf(env.In)
	if err != nil {
		return nil, err
	}
	to, err := FormatOf(env.Out)
	if err != nil {
		return nil, err
	}
	if from.Rate != to.Rate || from.Channels != 1 && to.Channels != 1 {
		return nil, fmt.Errorf("change channels from %v to %v: one side is mono and the rates are equal", env.In, env.Out)
	}
	var samples, mixed []int16 // scratch
	var payloads slab
	return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
		samples = Samples(samples[:0], a.Payload)
		mixed = Mix(mixed[:0], samples, from.Channels, to.Channels)
		a.Payload = Payload(payloads.reuse(a.Payload, 2*len(mixed)), mixed)
		return a, nil
	}), nil
}

// newGain multiplies by the argument "db", decibels from -60 to 40.
func newGain(_ context.Context, env operators.Env) (operators.Operator, error) {
	db, err := strconv.ParseFloat(env.Args["db"], 64)
	if err != nil || !(db >= -60 && db <= 40) {
		return nil, fmt.Errorf("argument db=%q: want decibels from -60 to 40", env.Args["db"])
	}
	factor := float32(math.Pow(10, db/20))
	var samples []int16 // scratch
	return operators.Each(func(a connectors.ADU) (connectors.ADU, error) {
		samples = Samples(samples[:0], a.Payload)
		for i, s := range samples {
			samples[i] = clip(float32(s) * factor)
		}
		a.Payload = Payload(a.Payload[:0], samples)
		return a, nil
	}), nil
}
