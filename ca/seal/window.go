package seal

// WindowSize is how far behind the newest counter a late one is still taken.
const WindowSize = 192

// Window remembers which counters were seen, in 32 bytes. Ask Fresh before the costly authentication and Mark after it:
// a forged counter then moves nothing. The zero Window has seen none; the counter 0 is never fresh.
type Window struct {
	top  uint64
	bits [WindowSize / 64]uint64 // bit i: the counter top-i was seen
}

// Fresh says whether the counter was not seen and is not too old to know.
func (w *Window) Fresh(counter uint64) bool {
	if counter > w.top {
		return true
	}
	behind := w.top - counter
	return counter != 0 && behind < WindowSize && w.bits[behind/64]&(1<<(behind%64)) == 0
}

// Mark remembers the counter as seen.
func (w *Window) Mark(counter uint64) {
	if counter > w.top {
		w.shift(counter - w.top)
		w.top = counter
	}
	if behind := w.top - counter; behind < WindowSize {
		w.bits[behind/64] |= 1 << (behind % 64)
	}
}

// shift moves every bit n places back.
func (w *Window) shift(n uint64) {
	if n >= WindowSize {
		w.bits = [WindowSize / 64]uint64{}
		return
	}
	words, rest := int(n/64), n%64
	for i := len(w.bits) - 1; i >= 0; i-- {
		var v uint64
		if from := i - words; from >= 0 {
			v = w.bits[from] << rest
			if from > 0 && rest > 0 {
				v |= w.bits[from-1] >> (64 - rest)
			}
		}
		w.bits[i] = v
	}
}
