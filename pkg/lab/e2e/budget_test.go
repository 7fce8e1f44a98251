package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestBudget: a Route Server that takes 1,000 routes, and more of them than half:
// no session ever ends, whatever is announced again.
func TestBudget(t *testing.T) {
	l := upLab(t, "b", "--cap", "1000")
	l.healthy()
	began := time.Now()
	type answer struct {
		BGP []struct {
			Name, Role, State string
			Announced         int
			UptimeS           float64 `json:"uptime_s"`
		}
		Warnings []string
	}
	// stays holds that the sessions with the Route Server are those of the beginning.
	// Each event is a burst of its own: several at once, within a second, can be too
	// much together, because a Route Server asks for everything when it likes.
	stays := func(what string, announced func(int) bool, warning string) {
		t.Helper()
		defer time.Sleep(2500 * time.Millisecond)
		l.eventually(what, 20*time.Second, func() error {
			var a answer
			l.ctl("transit-nva", &a, "status")
			for _, b := range a.BGP {
				if b.Role == "route-server" && (b.State != "established" || !announced(b.Announced)) {
					return fmt.Errorf("%+v, warnings %q", b, a.Warnings)
				}
				if b.Role == "route-server" && b.UptimeS < time.Since(began).Seconds()-2 {
					t.Fatalf("%s: a session began anew: %+v", what, b)
				}
			}
			if all := strings.Join(a.Warnings, "\n"); !strings.Contains(all, warning) || warning == "" && all != "" {
				return fmt.Errorf("warnings %q, want %q", all, warning)
			}
			return nil
		})
	}
	// known says that the customer's address is known at AVS, in whatever prefix.
	known := func(address string) {
		t.Helper()
		l.eventually(address+" is known to AVS' router", 20*time.Second, func() error {
			out, err := output(l.in("avs-edge", "ip", "route", "get", address))
			if err != nil || !strings.Contains(out, "wan0") {
				return fmt.Errorf("%q %w", out, err)
			}
			return nil
		})
	}
	fits := func(n int) bool { return n > 100 && n <= 500 }
	l.must(l.cmd("announce", "onprem", "--count", "900"))
	stays("900 prefixes", fits, "aggregated from 90")
	known("20.0.0.1")
	known("20.3.131.1") // the last one

	l.must(l.cmd("refresh", "transit-ars"))
	stays("after a change of peerings", fits, "aggregated")
	undo := l.edit("transit-nva", func(s string) string {
		return strings.Replace(s, "max_routes: 1000", "max_routes: 1000\n    next_hop: 10.1.2.100", 1)
	})
	if code := l.ctl("transit-nva", nil, "reload"); code != 0 {
		t.Errorf("reload: exit %d", code)
	}
	stays("another next hop for all of them", fits, "aggregated")
	l.eventually("the fabric has the new next hop", 10*time.Second, func() error {
		if e := l.effective("transit-nva", "172.16.0.0/16"); !strings.Contains(e, "10.1.2.100") {
			return fmt.Errorf("%q", e)
		}
		return nil
	})
	undo()
	if code := l.ctl("transit-nva", nil, "reload"); code != 0 {
		t.Errorf("reload: exit %d", code)
	}

	l.must(l.cmd("announce", "onprem", "--count", "1500"))
	stays("1,500 prefixes", fits, "aggregated from 1505")
	known("20.5.219.1")
	var x struct {
		Announced []struct{ Neighbor, Rule, Reason string }
	}
	l.ctl("transit-nva", &x, "explain", "20.5.219.0/24")
	if len(x.Announced) == 0 || x.Announced[0].Rule != "aggregated" || !strings.Contains(x.Announced[0].Reason, "stands for it") {
		t.Errorf("explain says %+v", x.Announced)
	}

	// 600 of which no two can be joined: what was announced is held.
	l.must(l.cmd("announce", "onprem", "--base", "30.0.0.0/8", "--count", "600", "--step", "2"))
	stays("600 more that cannot be joined", func(n int) bool { return n <= 500 }, "what was announced last is held")
	known("20.5.219.1")
	l.must(l.cmd("refresh", "transit-ars"))
	stays("after a change of peerings", func(n int) bool { return n <= 500 }, "held")

	l.must(l.cmd("withdraw", "onprem", "--base", "30.0.0.0/8", "--count", "600", "--step", "2"))
	l.must(l.cmd("withdraw", "onprem", "--count", "1500"))
	stays("all of them gone", func(n int) bool { return n < 10 }, "")
	l.eventually("the first next hop is back in the fabric", 20*time.Second, func() error { return l.reaches("avs", onpremHost) })
	l.clean("avs", onpremHost, 56)
}
