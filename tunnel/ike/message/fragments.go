package message

import (
	"errors"
	"fmt"
)

// Bounds of a message that comes in fragments (RFC 7383, section 4, on floods).
const (
	MaxFragments   = 128
	MaxReassembled = MaxLen // bytes of clear text
)

// Reassembly collects the fragments of one message (RFC 7383, section 2.6),
// after their decryption: what is not authentic never comes here. The zero
// value is empty. The caller has one for each message ID it expects, and drops
// it when the message is complete or no longer expected.
type Reassembly struct {
	total  uint16
	have   int
	size   int
	first  PayloadType
	pieces [][]byte
}

// errFragmentTotal is a fragment of a coarser split than the one begun.
var errFragmentTotal = errors.New("the message is being sent in more fragments already")

// Add takes the clear text of a fragment, which it keeps, and reports whether
// all are there. A fragment that is there already changes nothing. A higher
// total than before begins anew: the sender has tried smaller fragments; a lower
// one is late, and refused.
func (r *Reassembly) Add(number, total uint16, first PayloadType, plain []byte) (complete bool, err error) {
	switch {
	case number == 0 || number > total:
		return false, fmt.Errorf("fragment %d of %d", number, total)
	case total > MaxFragments:
		return false, fmt.Errorf("%d fragments, %d are allowed", total, MaxFragments)
	case total < r.total:
		return false, fmt.Errorf("fragment %d of %d: %w", number, total, errFragmentTotal)
	case total > r.total:
		*r = Reassembly{total: total, pieces: make([][]byte, total)}
	}
	if r.pieces[number-1] != nil {
		return r.have == int(total), nil
	}
	if r.size+len(plain) > MaxReassembled {
		return false, fmt.Errorf("fragments of more than %d bytes in all", MaxReassembled)
	}
	if number == 1 {
		r.first = first
	}
	if plain == nil {
		plain = []byte{}
	}
	r.pieces[number-1] = plain
	r.size += len(plain)
	r.have++
	return r.have == int(total), nil
}

// Plain is the whole clear text and the type of its first payload, once Add
// has said that it is complete.
func (r *Reassembly) Plain() (first PayloadType, plain []byte) {
	plain = make([]byte, 0, r.size)
	for _, p := range r.pieces {
		plain = append(plain, p...)
	}
	return r.first, plain
}
