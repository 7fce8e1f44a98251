package azure

import (
	"net/netip"
	"testing"
)

// TestReservedASN walks the edges of every range.
func TestReservedASN(t *testing.T) {
	t.Parallel()
	always := []uint32{0, 8074, 8075, 12076, 23456, 65515, 65516, 65517, 65520, 65535, 398656, 4294967295}
	sometimes := []uint32{64496, 64511, 65536, 65551}
	free := []uint32{1, 8073, 8076, 12075, 12077, 23455, 23457, 64495, 64512, 64513, 65010, 65514, 65521, 65534, 65552, 398655, 398657, 4200000000, 4294967294}
	check := func(asns []uint32, wantReserved, wantAlways bool) {
		for _, asn := range asns {
			r, reserved := ReservedASN(asn)
			if reserved != wantReserved || r.Always != wantAlways || (r.Reason == "") == wantReserved {
				t.Errorf("%d: %+v, %v", asn, r, reserved)
			}
		}
	}
	check(always, true, true)
	check(sometimes, true, false)
	check(free, false, false)
}

func TestFitsRouteServer(t *testing.T) {
	t.Parallel()
	if !FitsRouteServer(65514) || FitsRouteServer(65536) || FitsRouteServer(ASNVMwareSolution) {
		t.Error("16 bits are misjudged")
	}
}

func TestReservedAddress(t *testing.T) {
	t.Parallel()
	for _, a := range ReservedAddresses() {
		if reason, reserved := ReservedAddress(a); !reserved || reason == "" {
			t.Errorf("%s: %q, %v", a, reason, reserved)
		}
	}
	if WireServer().String() != "168.63.129.16" || InstanceMetadata().String() != "169.254.169.254" {
		t.Error("an address is wrong")
	}
	if _, reserved := ReservedAddress(netip.MustParseAddr("169.254.77.1")); reserved {
		t.Error("an overlay address is reserved")
	}
}
