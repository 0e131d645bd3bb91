package world

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJitter(t *testing.T) {
	w := NewSim(1, Link{}).Host(ipA)
	for range 1000 {
		if d := w.Jitter(time.Second); d < time.Second/2 || d >= 3*time.Second/2 {
			t.Fatal(d)
		}
	}
	if w.Jitter(0) != 0 {
		t.Error("no period has jitter")
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := Sleep(ctx, time.Millisecond); err != nil {
			t.Error(err)
		}
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
