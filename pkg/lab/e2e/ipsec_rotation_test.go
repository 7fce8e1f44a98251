package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ipsecTwins are two transitds that an IPsec tunnel joins.
type ipsecTwins [2]*twin

// newIPsecTwins starts both, with SAs.
func newIPsecTwins(t *testing.T) ipsecTwins {
	t.Helper()
	w := ipsecTwins(newTwins(t, 4500))
	for i, n := range w {
		writeFile(t, filepath.Join(n.dir, "psk"), ipsecSecret+"\n")
		n.write(t, w[1-i], ipsecKeys(n, ipsecProposals))
	}
	startTwins(t, w)
	w.settled(t)
	return w
}

// ipsecProposals are what a twin offers, and takes: the first one is agreed on.
const ipsecProposals = "aes256gcm16-ecp384-esn, chacha20poly1305-x25519-esn"

func ipsecKeys(n *twin, proposals string) string {
	return fmt.Sprintf("encapsulation: ipsec\n    ipsec: {psk_file: %s/psk, paths: 4, esp_proposals: [%s]}", n.dir, proposals)
}

func (n *twin) ipsecStatus(t *testing.T) ipsecStatus {
	t.Helper()
	s, err := askIPsec(n.socket())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// agreed is what both ends have: one IKE SA, and one pair.
type agreed struct{ ike, child, proposal string }

func (w ipsecTwins) agreed() (a agreed, err error) {
	var spis [2][2]string
	for i, n := range w {
		s, err := askIPsec(n.socket())
		if err != nil {
			return a, err
		}
		x := s.Tunnels[0].IPsec
		if len(x.IKE) != 1 || len(x.Child) != 1 || x.IKE[0].State != "established" || x.Child[0].State != "installed" {
			return a, fmt.Errorf("at %s: %+v", n.outer, x)
		}
		if i == 1 && x.IKE[0].InitiatorSPI != a.ike {
			return a, fmt.Errorf("one has IKE SA %s, the other %s", a.ike, x.IKE[0].InitiatorSPI)
		}
		a = agreed{x.IKE[0].InitiatorSPI, x.Child[0].InSPI + x.Child[0].OutSPI, x.Child[0].Proposal}
		spis[i] = [2]string{x.Child[0].InSPI, x.Child[0].OutSPI}
	}
	if spis[0] != [2]string{spis[1][1], spis[1][0]} {
		return a, fmt.Errorf("the pairs are not the same: %v", spis)
	}
	return a, nil
}

func (w ipsecTwins) settled(t *testing.T) (a agreed) {
	t.Helper()
	soon(t, "one IKE SA and one pair at both ends", 20*time.Second, func() (err error) { a, err = w.agreed(); return err })
	return a
}

// another waits until the IKE SA, or the pair, is another one than before.
func (w ipsecTwins) another(t *testing.T, what string, before agreed, ike, child bool) {
	t.Helper()
	soon(t, what, 10*time.Second, func() error {
		now, err := w.agreed()
		if err == nil && (ike && now.ike == before.ike || child && now.child == before.child) {
			err = fmt.Errorf("it was %+v, and is %+v", before, now)
		}
		return err
	})
}

// tell has the ends do something at the same moment, as far as two commands can.
func tell(t *testing.T, args string, ends ...*twin) {
	t.Helper()
	done := make(chan error, len(ends))
	for _, n := range ends {
		go func() { _, err := output(n.transitctl(t, strings.Fields(args)...)); done <- err }()
	}
	for range ends {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// renew replaces keys in every way that there is, and returns how often.
func (w ipsecTwins) renew(t *testing.T) (times int) {
	t.Helper()
	const rekey, ike = "ipsec rekey", "ipsec rekey --ike"
	for _, step := range []struct {
		name       string
		do         func()
		ike, child bool // what is another one afterwards
	}{
		{"one end replaces the pair", func() { tell(t, rekey, w[0]) }, false, true},
		{"the other end does", func() { tell(t, rekey, w[1]) }, false, true},
		{"both do", func() { tell(t, rekey, w[0], w[1]) }, false, true},
		{"one end replaces the IKE SA", func() { tell(t, ike, w[0]) }, true, false},
		{"the other end does", func() { tell(t, ike, w[1]) }, true, false},
		{"both do", func() { tell(t, ike, w[0], w[1]) }, true, false},
		{"one end replaces the pair and the IKE SA", func() { tell(t, rekey, w[0]); tell(t, ike, w[0]) }, true, true},
		{"another proposal", func() { w.propose(t, "chacha20poly1305-x25519-esn") }, true, true},
		{"the first proposal", func() { w.propose(t, ipsecProposals) }, true, true},
	} {
		before := w.settled(t)
		step.do()
		w.another(t, step.name, before, step.ike, step.child)
		times++
	}
	return times
}

// propose reloads the first one with other proposals for ESP.
func (w ipsecTwins) propose(t *testing.T, proposals string) {
	t.Helper()
	w[0].write(t, w[1], ipsecKeys(w[0], proposals))
	tell(t, "reload", w[0])
	first, _, _ := strings.Cut(proposals, "-")
	soon(t, "another proposal is agreed on", 10*time.Second, func() error {
		a, err := w.agreed()
		if err == nil && !strings.HasPrefix(a.proposal, first) {
			err = fmt.Errorf("it is %s", a.proposal)
		}
		return err
	})
}

// drops are those that new keys must not cause, and packets that came late.
func (w ipsecTwins) drops(t *testing.T) (wrong, late [2]uint64) {
	t.Helper()
	for i := range w {
		all := w[i].ipsecStatus(t).Tunnels[0].Drops
		for _, reason := range []string{"auth_failed", "no_session", "replayed", "sa_expired", "bad_padding", "selector"} {
			wrong[i] += all[reason]
		}
		late[i] = all["too_old"]
		t.Logf("%s dropped %v", w[i].outer, all)
	}
	return wrong, late
}

// Keys are replaced by either end and by both at once, and another proposal is
// taken by a reload: of 5,000 datagrams a second and 500 full ones each way none
// is lost, TCP at full speed does not stand still, and no packet comes without its keys.
func TestIPsecRotation(t *testing.T) {
	w := newIPsecTwins(t)
	before, _ := w.drops(t)
	t.Run("UDP", func(t *testing.T) {
		small, full := w[0].startDatagrams(t, w[1], "5201", "8M", 200, 8), w[0].startDatagrams(t, w[1], "5202", "5500K", 1372, 8)
		t.Logf("replaced %d times", w.renew(t))
		small.none(20000)
		full.none(2000)
		if wrong, late := w.drops(t); wrong != before || late != [2]uint64{} {
			t.Error("packets were dropped")
		}
	})
	t.Run("TCP", func(t *testing.T) {
		w[1].listens(t, "5201")
		var flow longFlow
		done := make(chan error, 1)
		go func() {
			out, err := output(w[0].ns.Command(t.Context(), "iperf3", "-c", w[1].inner, "-p", "5201", "-t", "6", "-i", "0.1", "--forceflush", "-J"))
			if err == nil {
				err = json.Unmarshal([]byte(out), &flow)
			}
			done <- err
		}()
		t.Logf("replaced %d times", w.renew(t))
		if err := <-done; err != nil || flow.Error != "" {
			t.Fatalf("%v %s", err, flow.Error)
		}
		stall, bytes := flow.stall()
		t.Logf("TCP carried %d MB in its last two seconds, and stood still for %v", bytes/1e6, stall)
		if stall > time.Second || bytes < 10<<20 {
			t.Error("it should not stand still")
		}
	})
	// At full speed a sender that has to wait for a processor can be too late with a packet, new keys or not.
	if wrong, _ := w.drops(t); wrong != before {
		t.Error("packets were dropped that had no keys")
	}
}
