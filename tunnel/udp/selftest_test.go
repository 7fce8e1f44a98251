package udp

import "testing"

func TestCorrupts(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44-fc-v657": false, "7.0.0-rc1": true, "7.0.12": true, "7.1.4-generic": true, "7.1.5": false, "7.1.10": false, "7.2.0": false,
		"5.15.0-91-generic": false, "70.1.1": false, "": false, "seven": false,
	} {
		if got := corrupts(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
}
