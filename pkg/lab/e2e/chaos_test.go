package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// chaos is a lab with two NVAs a side to which random things happen.
type chaos struct {
	*lab
	rng   *rand.Rand
	fresh map[string]string // what a fresh start gives, by place
	log   []string
}

// TestRandomEvents: kill, cut, flap, refresh, reload, drain, maintenance in any
// order; each time the events pause, everything is exactly as after a fresh
// start. TRANSITD_CHAOS=30m makes it longer, TRANSITD_SEED repeats a run.
func TestRandomEvents(t *testing.T) {
	length := 100 * time.Second
	if d, err := time.ParseDuration(os.Getenv("TRANSITD_CHAOS")); err == nil {
		length = d
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("TRANSITD_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("TRANSITD_SEED=%d", seed)
	c := &chaos{lab: upLab(t, "r", "--nvas", "2"), rng: rand.New(rand.NewPCG(seed, 1))}
	c.allHealthy(40 * time.Second)
	c.fresh = c.settled()
	pauses, events := 0, 0
	for end := time.Now().Add(length); time.Now().Before(end); pauses++ {
		for range 3 + c.rng.IntN(5) {
			c.event()
			events++
		}
		c.pause()
	}
	t.Logf("%d events, %d pauses: each time as after a fresh start", events, pauses)
}

// do runs a command of the lab; what it says of a node that is down is no matter.
func (c *chaos) do(args ...string) {
	c.log = append(c.log, strings.Join(args, " "))
	_, _ = output(c.cmd(args...))
}

func (c *chaos) event() {
	node := fourNVAs[c.rng.IntN(len(fourNVAs))]
	other := fourNVAs[c.rng.IntN(len(fourNVAs))]
	instance := []string{"hub-ars-0", "hub-ars-1", "transit-ars-0", "transit-ars-1"}[c.rng.IntN(4)]
	count := strconv.Itoa(1 + c.rng.IntN(300))
	switch c.rng.IntN(11) {
	case 0:
		c.do("kill", node)
	case 1:
		c.do("start", node)
	case 2:
		c.do("restart", node)
	case 3:
		c.do("cut", node)
	case 4:
		if node != other {
			c.do("cut", node, other)
		}
	case 5:
		c.do("heal")
	case 6:
		c.do("refresh", []string{"hub-ars", "transit-ars"}[c.rng.IntN(2)])
	case 7:
		c.do("maintenance", instance, "--down", fmt.Sprintf("%dms", c.rng.IntN(3000)))
	case 8:
		c.do("flap", []string{"onprem", "avs-edge"}[c.rng.IntN(2)], "--count", count, "--for", "1s")
	case 9:
		c.log = append(c.log, node+" reload")
		_, _ = output(c.ctlCommand(node, "reload"))
	case 10:
		verb := []string{"drain", "undrain"}[c.rng.IntN(2)]
		c.log = append(c.log, node+" "+verb)
		args := []string{verb}
		if verb == "drain" {
			args = append(args, "--wait", "0s")
		}
		_, _ = output(c.ctlCommand(node, args...))
	}
	time.Sleep(time.Duration(c.rng.IntN(1500)) * time.Millisecond) // events come at any time
}

// pause undoes what was done, and compares.
func (c *chaos) pause() {
	c.t.Helper()
	c.must(c.cmd("heal"))
	for _, node := range fourNVAs {
		_, _ = output(c.cmd("start", node)) // one that runs says so
		c.eventually(node+" answers", 20*time.Second, func() error {
			_, err := output(c.ctlCommand(node, "undrain"))
			return err
		})
	}
	c.allHealthy(60 * time.Second)
	var diff string
	start := time.Now()
	for time.Since(start) < 60*time.Second {
		if diff = c.difference(); diff == "" {
			c.log = append(c.log, fmt.Sprintf("pause: as ever after %s", time.Since(start).Round(time.Second)))
			return
		}
		time.Sleep(time.Second)
	}
	c.t.Fatalf("not as after a fresh start:\n%s\nafter\n%s", diff, strings.Join(c.log, "\n"))
}

func (c *chaos) difference() string {
	now := c.state()
	var b strings.Builder
	for _, place := range slices.Sorted(maps.Keys(c.fresh)) {
		was, is := strings.Split(c.fresh[place], "\n"), strings.Split(now[place], "\n")
		for _, line := range was {
			if !slices.Contains(is, line) {
				fmt.Fprintf(&b, "%s - %s\n", place, line)
			}
		}
		for _, line := range is {
			if !slices.Contains(was, line) {
				fmt.Fprintf(&b, "%s + %s\n", place, line)
			}
		}
	}
	return b.String()
}

// settled waits until nothing changes any more.
func (c *chaos) settled() map[string]string {
	c.t.Helper()
	var last map[string]string
	c.eventually("the lab has settled", 60*time.Second, func() error {
		time.Sleep(2 * time.Second)
		now := c.state()
		if !maps.Equal(now, last) {
			last = now
			return fmt.Errorf("it still changes")
		}
		return nil
	})
	return last
}

// state is everything that has to be the same: rules, routes, what is announced,
// and what the fabric has programmed.
func (c *chaos) state() map[string]string {
	s := map[string]string{}
	for _, node := range fourNVAs {
		rules, _ := output(c.in(node, "ip", "rule"))
		routes, _ := output(c.in(node, "ip", "route", "show", "table", "all", "proto", "210"))
		s[node+" rules"] = sorted(rules)
		// A prefix that flapped is refused for a minute more.
		s[node+" routes"] = sorted(without(routes, "unreachable 20."))
		var a struct {
			Routes []struct {
				Prefix, Neighbor string
				NextHop          string   `json:"next_hop"`
				ASPath           []uint32 `json:"as_path"`
				Accepted         bool
			}
		}
		out, _ := output(c.ctlCommand(node, "bgp", "routes", "--announced", "-o", "json"))
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			s[node+" announced"] = err.Error()
			continue
		}
		var lines []string
		for _, r := range a.Routes {
			if r.Accepted {
				lines = append(lines, fmt.Sprintf("%s to %s by %s path %v", r.Prefix, r.Neighbor, r.NextHop, r.ASPath))
			}
		}
		s[node+" announced"] = sorted(strings.Join(lines, "\n"))
	}
	for _, nic := range []string{"spoke", "hub-nva", "transit-nva"} {
		out, _ := output(c.cmd("effective", nic))
		s["fabric at "+nic] = sorted(out)
	}
	return s
}

func sorted(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(lines[i]), " ")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func without(text, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, prefix) {
			b.WriteString(line)
		}
	}
	return b.String()
}
