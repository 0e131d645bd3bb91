package rtp

import (
	"testing"
	"time"
)

// A burst goes 60 ms ahead and then at the media's pace.
func TestPaceOfABurst(t *testing.T) {
	p := &pacer{format: telephone}
	now := start
	for n := range 100 {
		pos, _ := p.place(now, time.Duration(n)*20*ms)
		if pos != int64(n)*160 {
			t.Fatalf("ADU %d at %d", n, pos)
		}
		now = now.Add(p.wait(now, pos))
		p.sent(pos, 160)
		if early := time.Duration(n)*20*ms - now.Sub(start); early > ahead || n > 3 && early != ahead {
			t.Fatalf("ADU %d is %v early", n, early)
		}
	}
}

// A live source that is a little late is never held.
func TestPaceOfALiveSource(t *testing.T) {
	p := &pacer{format: telephone}
	for n := range 100 {
		now := at(time.Duration(n)*20*ms + time.Duration(n*7%13)*ms)
		pos, pause := p.place(now, time.Duration(n)*20*ms)
		if w := p.wait(now, pos); w != 0 {
			t.Fatalf("ADU %d waits %v", n, w)
		}
		if pause != (n == 0) {
			t.Fatalf("ADU %d: pause %v", n, pause)
		}
		p.sent(pos, 160)
	}
}

// A live source that was held up for half a second is on time again as soon as it can be; one that was silent for longer
// goes on at its own pace.
func TestPaceAfterAStall(t *testing.T) {
	for stall, late := range map[time.Duration]bool{500 * ms: false, 3 * time.Second: true} {
		p := &pacer{format: telephone}
		now := start
		var last time.Duration
		for n := range 200 {
			media := time.Duration(n) * 20 * ms
			if n == 50 {
				now = at(media + stall)
			}
			pos, _ := p.place(now, media)
			now = now.Add(p.wait(now, pos))
			p.sent(pos, 160)
			last = now.Sub(start) - media
		}
		if want := stall - ahead; late && last != want || !late && last != -ahead {
			t.Errorf("after a stall of %v the stream is %v late", stall, last)
		}
	}
}

// Each utterance's media time begins at 0: the stream goes on, and the pause between shows in it.
func TestMediaTimeBeginsAgain(t *testing.T) {
	p := &pacer{format: telephone}
	now := start
	for n := range 5 {
		pos, _ := p.place(now, time.Duration(n)*20*ms)
		now = now.Add(p.wait(now, pos))
		p.sent(pos, 160)
	}
	now = at(3 * time.Second)
	pos, pause := p.place(now, 0)
	if pos != 3*8000 || !pause {
		t.Errorf("after the pause at sample %d, pause %v; want 24000", pos, pause)
	}
	if w := p.wait(now, pos); w != 0 {
		t.Errorf("waits %v", w)
	}
	p.sent(pos, 160)
	if pos, pause = p.place(now, 20*ms); pos != 3*8000+160 || pause {
		t.Errorf("then at sample %d, pause %v", pos, pause)
	}
}

// A source that sets no media times is paced by what it sends.
func TestNoMediaTime(t *testing.T) {
	p := &pacer{format: telephone}
	now := start
	for n := range 50 {
		pos, _ := p.place(now, 0)
		if pos != int64(n)*160 {
			t.Fatalf("ADU %d at %d", n, pos)
		}
		now = now.Add(p.wait(now, pos))
		p.sent(pos, 160)
	}
	if took := now.Sub(start); took != 49*20*ms-ahead {
		t.Errorf("50 ADUs of 20 ms took %v", took)
	}
}

func TestSamplesAndBack(t *testing.T) {
	for _, rate := range []int{8000, 16000, 22050, 44100, 48000} {
		f := format{rate: rate, sample: 2}
		for _, n := range []int64{0, 1, 441, 999_999, int64(rate) * 3600 * 24 * 30} {
			if got := f.samples(f.span(n)); got != n {
				t.Errorf("%d samples at %d Hz come back as %d", n, rate, got)
			}
		}
	}
}
