package packet

import "testing"

// RFC 6040, figure 4: one row for the inner field, one column for the outer.
func TestDecapECNIsFigure4(t *testing.T) {
	const drop = 0xff
	columns := [4]uint8{NotECT, ECT0, ECT1, CE}
	rows := []struct {
		inner uint8
		want  [4]uint8
	}{
		{NotECT, [4]uint8{NotECT, NotECT, NotECT, drop}},
		{ECT0, [4]uint8{ECT0, ECT0, ECT1, CE}},
		{ECT1, [4]uint8{ECT1, ECT1, ECT1, CE}},
		{CE, [4]uint8{CE, CE, CE, CE}},
	}
	for _, row := range rows {
		for i, outer := range columns {
			// The other six bits are the DSCP and must not matter.
			got, ok := DecapECN(outer|0xb8, row.inner|0x28)
			if ok != (row.want[i] != drop) || ok && got != row.want[i] {
				t.Errorf("outer %02b, inner %02b: %02b, %v; want %02b", outer, row.inner, got, ok, row.want[i])
			}
		}
	}
	noAllocs(t, "DecapECN", func() { _, _ = DecapECN(CE, ECT0) })
}

func TestSetECN(t *testing.T) {
	v4 := "45b8 0014 1234 4000 4006 8e02 c000 0201 c633 6402"
	v6 := "6b8f ffff 0000 3b40 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000 0000 0000 0000 0002"
	for ecn := uint8(0); ecn < 4; ecn++ {
		for _, before := range []uint8{NotECT, ECT1, ECT0, CE} {
			b := unhex(t, v4)
			b[1] |= before
			b[10], b[11] = 0, 0
			sum := ^naiveSum(b)
			b[10], b[11] = byte(sum>>8), byte(sum)
			SetECN(b, 4, ecn)
			if b[1] != 0xb8|ecn || !headerValid(b) {
				t.Errorf("v4, %d to %d: TOS %02x, checksum valid %v", before, ecn, b[1], headerValid(b))
			}
		}
		b := unhex(t, v6)
		SetECN(b, 6, ecn)
		if in := mustParse(t, b); in.TOS != 0xb8|ecn || b[0] != 0x6b || b[1]&0xf != 0xf {
			t.Errorf("v6, %d: traffic class %02x in % x; the flow label must stay", ecn, in.TOS, b[:4])
		}
	}
}
