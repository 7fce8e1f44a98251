package main

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestWholeBlocks(t *testing.T) {
	t.Parallel()
	block := func(n int) []byte {
		b := make([]byte, n)
		binary.LittleEndian.PutUint32(b, 6)
		binary.LittleEndian.PutUint32(b[4:], uint32(n))
		return b
	}
	stream := bytes.Join([][]byte{block(28), block(12), block(1000)}, nil)
	for step := 1; step < 60; step += 7 {
		var out bytes.Buffer
		p := &wholeBlocks{w: &out}
		for rest := stream[:500]; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			if _, err := p.Write(rest[:min(step, len(rest))]); err != nil {
				t.Fatal(err)
			}
		}
		if out.Len() != 40 {
			t.Errorf("in steps of %d: %d bytes of whole blocks", step, out.Len())
		}
		if _, err := p.Write(stream[500:]); err != nil || !bytes.Equal(out.Bytes(), stream) {
			t.Errorf("in steps of %d: %d bytes, %v", step, out.Len(), err)
		}
	}
	if _, err := (&wholeBlocks{w: &bytes.Buffer{}}).Write([]byte("<html><body>")); err == nil {
		t.Error("what is no pcapng is passed on")
	}
}
