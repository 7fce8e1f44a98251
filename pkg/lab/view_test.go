package lab

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Output of BIRD 2.0.12 in the lab.
const birdOutput = `BIRD 2.0.12 ready.
Table master4:
172.16.0.0/16        unreachable [own 07:15:14.959] * (200)
	Type: static univ
10.50.1.0/24         unicast [peer0 07:15:15.743] * (100) [AS12076i]
	via 198.19.10.1 on wan0
	Type: BGP univ
	BGP.origin: IGP
	BGP.as_path: 12076
	BGP.next_hop: 198.19.10.1
	BGP.local_pref: 100
0.0.0.0/0            unicast [peer0 07:15:15.743] * (100) [AS64513i]
	via 198.19.10.1 on wan0
	Type: BGP univ
	BGP.as_path: 12076 64513
`

// Output of FRR 8.4.4 in the lab, shortened.
const frrOutput = `{"vrfId":0,"routerId":"172.16.1.10","localAS":65010,"routes":{
"10.50.1.0/24": [{"valid":true,"bestpath":true,"pathFrom":"external","prefix":"10.50.1.0","prefixLen":24,"network":"10.50.1.0/24","path":"12076","origin":"IGP"}],
"172.16.0.0/16": [{"valid":true,"bestpath":true,"pathFrom":"external","prefix":"172.16.0.0","prefixLen":16,"path":"","origin":"IGP"}],
"0.0.0.0/0": [{"valid":true,"path":"12076 1","origin":"IGP"},{"valid":true,"bestpath":true,"path":"12076 64513","origin":"IGP"}]}}`

func TestKnownRoutesOfOtherPrograms(t *testing.T) {
	t.Parallel()
	want := Known{
		{Prefix: netip.MustParsePrefix("10.50.1.0/24"), ASPath: "12076"},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), ASPath: "12076 64513"},
	}
	sort := cmpopts.SortSlices(func(a, b knownRoute) bool { return a.ASPath < b.ASPath })
	opts := cmp.Options{sort, cmpopts.EquateComparable(netip.Prefix{})}
	if diff := cmp.Diff(want, parseBIRD(birdOutput), opts); diff != "" {
		t.Errorf("BIRD (-want +got):\n%s", diff)
	}
	frr, err := parseFRR([]byte(frrOutput))
	if diff := cmp.Diff(want, frr, opts); diff != "" || err != nil {
		t.Errorf("FRR: %v (-want +got):\n%s", err, diff)
	}
	if _, err := parseFRR([]byte("% Unknown command")); err == nil {
		t.Error("FRR's error was taken for a table")
	}
}

func TestForbiddenAnnouncements(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, prefix, path string
		want               int
	}{
		{"good", "10.50.1.0/24", "12076", 0},
		{"good, with the NVA's own number", "10.50.1.0/24", "12076 64513", 0},
		{"Azure's own number", "10.50.1.0/24", "12076 65515", 1},
		{"AVS' number", "10.50.1.0/24", "12076 398656", 1},
		{"12076 twice", "10.50.1.0/24", "12076 64512 12076", 1},
		{"overlay", "169.254.77.0/30", "12076", 1},
		{"Route Server's subnet", "10.0.1.0/27", "12076", 1},
		{"endpoint", "10.1.2.4/32", "12076", 1},
		{"its own", "172.16.0.0/16", "12076", 1},
		{"a piece of its own", "172.16.5.0/24", "12076", 1},
		{"a whole VNet", "10.0.0.0/16", "12076", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := forbidden("on-prem", Known{{Prefix: netip.MustParsePrefix(tt.prefix), ASPath: tt.path}}, onPremPrefixes())
			if len(got) != tt.want {
				t.Errorf("%v, want %d findings", got, tt.want)
			}
		})
	}
}
