package traffic

// window is how many sequence numbers of a flow are remembered behind its
// highest: at a million packets per second that is 65 ms, far more than packets overtake each other.
const window = 1 << 16

// arrival is what a sequence number says of its packet.
type arrival uint8

const (
	inOrder   arrival = iota
	reordered         // after a higher one
	duplicate         // once more
)

// tracker sorts the sequence numbers of one flow, in memory of a fixed size.
type tracker struct {
	next uint64 // one above the highest seen
	seen [window / 64]uint64
}

// add takes a number that has arrived. One that is further behind than the
// window counts as reordered; whether it is a duplicate is forgotten by then.
func (t *tracker) add(seq uint64) arrival {
	if seq >= t.next {
		t.forget(seq)
		t.next = seq + 1
		t.set(seq)
		return inOrder
	}
	if t.next-seq > window {
		return reordered
	}
	if word, bit := t.at(seq); t.seen[word]&bit != 0 {
		return duplicate
	}
	t.set(seq)
	return reordered
}

// forget clears the places of next to seq, whose numbers leave the window.
func (t *tracker) forget(seq uint64) {
	if seq-t.next >= window {
		clear(t.seen[:])
		return
	}
	for s := t.next; s <= seq; {
		word, bit := t.at(s)
		if bit == 1 && seq-s >= 63 {
			t.seen[word] = 0
			s += 64
			continue
		}
		t.seen[word] &^= bit
		s++
	}
}

func (t *tracker) set(seq uint64) {
	word, bit := t.at(seq)
	t.seen[word] |= bit
}

func (t *tracker) at(seq uint64) (word int, bit uint64) {
	return int(seq % window / 64), 1 << (seq % 64)
}
