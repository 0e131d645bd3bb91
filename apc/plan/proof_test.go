package plan

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// A plan's proof convinces someone who does not know how it was found; one that claims too much does not.
func TestProof(t *testing.T) {
	proved, chains, refuted := 0, 0, 0
	for seed := range 300 * scale() {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		parts, q := randomInstance(r)
		c, err := NewCatalogue(parts)
		if err != nil {
			t.Fatal(err)
		}
		p, f, err := c.Prove(context.Background(), q)
		var no *Refusal
		if errors.As(err, &no) {
			continue
		} else if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		text, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var read Proof
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		if err := checkProof(parts, q, &read); err != nil {
			t.Fatalf("seed %d: cost %v, prices %v: %v", seed, p.Cost, read.Prices, err)
		}
		proved, chains = proved+1, chains+len(f.Chains)
		if read.Cost += 0.01 * max(1, p.Cost); checkProof(parts, q, &read) != nil {
			refuted++
		}
	}
	t.Logf("%d proofs hold, of %d chains; %d of them do not hold for a cost that is higher by a hundredth", proved, chains, refuted)
	if refuted*10 < proved*9 {
		t.Error("the checker takes proofs of what is not so")
	}
}

// Proofs of larger worlds, where bounds that bind get prices.
func TestProofUnderBounds(t *testing.T) {
	priced := 0
	for seed := range uint64(4 * scale()) {
		parts := bigWorld(120, 8, seed)
		c, err := NewCatalogue(parts)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range bigRequests(parts, seed) {
			best, err := c.Plan(context.Background(), q)
			low, also := c.Plan(context.Background(), minimal(q, resLatency))
			if err != nil || also != nil {
				continue
			}
			q.Bounds.Latency = (best.Latency + low.Latency) / 2
			p, f, err := c.Prove(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkProof(parts, q, f); err != nil {
				t.Errorf("seed %d, %s to %s, %d chains: %v", seed, q.From, q.To, len(f.Chains), err)
			}
			if direct, err := c.Plan(context.Background(), q); err != nil || math.Abs(direct.Cost-p.Cost) > 1e-9 {
				t.Errorf("seed %d: %v proven, %v planned (%v)", seed, p.Cost, direct.Cost, err)
			}
			if len(f.Prices) > 0 {
				priced++
			}
			t.Logf("seed %d, %s to %s: %d chains, prices %v", seed, q.From, q.To, len(f.Chains), f.Prices)
		}
	}
	if priced == 0 {
		t.Error("no bound had a price")
	}
}
