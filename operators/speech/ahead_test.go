package speech

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"ninja/connectors"
	"ninja/connectors/mem"
	"ninja/operators/audio"
)

// A voice that takes 60 ms a sentence, on a path that plays in real time: between sentences, within an ADU and across
// ADUs, the listener waits no longer than for any other 20 ms.
func TestNoGapBetweenSentences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := audio.Format{Rate: 8000, Channels: 1}
		tone := make([]int16, 8000*3/10)
		for i := range tone {
			tone[i] = int16(i%50*100 + 1)
		}
		s := &speak{format: f, now: time.Now, log: slog.New(slog.DiscardHandler), say: func(ctx context.Context, _ string) ([]byte, error) {
			time.Sleep(60 * time.Millisecond)
			return audio.WAV(f, tone), nil
		}}
		to, in := mem.Pair(4)
		out, from := mem.Pair(1)
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context(), in, out); out.Close() }()
		for _, text := range []string{"This is one. This is two. This is three.", "This is four.", "This is five."} {
			to.Write(t.Context(), connectors.ADU{Payload: []byte(text)})
		}
		to.Close()
		adus, longest := 0, time.Duration(0)
		for began := time.Now(); ; began = time.Now() {
			a, err := from.Read(t.Context())
			if err != nil {
				break
			}
			if wait := time.Since(began); adus > 0 && wait > longest {
				longest = wait
			}
			adus++
			time.Sleep(f.Duration(int64(len(a.Payload) / 2)))
		}
		if err := <-done; err != nil || adus != 5*15+1 {
			t.Errorf("%d ADUs, %v", adus, err)
		}
		if longest > 0 {
			t.Errorf("the listener waited %v between sentences", longest)
		}
	})
}
