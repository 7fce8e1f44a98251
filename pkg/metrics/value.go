package metrics

import (
	"slices"
	"strconv"
	"time"
)

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func seconds(us uint64) float64 { return (time.Duration(us) * time.Microsecond).Seconds() }

// stateNumber is bgpPeerState of BGP4-MIB, which SNMP tools know; 0 is unknown.
func stateNumber(state string) float64 {
	return float64(max(0, slices.Index([]string{"", "idle", "connect", "active", "open-sent", "open-confirm", "established"}, state)))
}
