package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/stamp"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	ways := func(there, back float64) control.Quality {
		return control.Quality{There: &control.OneWay{Loss: there}, Back: &control.OneWay{Loss: back}}
	}
	for _, c := range []struct {
		inside, under float64
		quality       control.Quality
		ok            bool
		want          string
	}{
		{0, 0, ways(0, 0), true, "all came back"},
		{0, 1, ways(0, 0), true, "does not answer ICMP"},
		{1, 0, control.Quality{}, false, "the other NVA's daemon"},
		{1, 1, control.Quality{}, false, "nothing comes back at all"},
		{0.1, 0.1, ways(0.1, 0), false, "it is the fabric"},
		{0.1, 0, ways(0.1, 0), false, "on the way there"},
		{0.1, 0, ways(0, 0.1), false, "on the way back"},
		{0.2, 0, ways(0.1, 0.1), false, "inside the tunnel only"},
		{0.1, 0, control.Quality{}, false, "inside the tunnel only"},
	} {
		ok, words := verdict(control.PingSide{Loss: c.inside, Quality: c.quality}, control.PingSide{Loss: c.under})
		if ok != c.ok || !strings.Contains(words, c.want) {
			t.Errorf("%v of %v: %v, %q; want %q", c.inside, c.under, ok, words, c.want)
		}
	}
}

func TestLossNote(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		q    stamp.Stats
		want string
	}{
		{stamp.Stats{Method: stamp.STAMP, Sent: 60, Received: 60}, ""},
		{stamp.Stats{Method: stamp.STAMP, Sent: 10, Received: 5, Loss: 0.5, LossThere: 0.5}, ""}, // too few to tell
		{stamp.Stats{Method: stamp.STAMP, Sent: 60, Received: 45, Loss: 0.25, LossThere: 0.25}, "25 % of the last 60 probes to 198.51.100.4 were lost, on the way there: what we send"},
		{stamp.Stats{Method: stamp.STAMP, Sent: 60, Received: 45, Loss: 0.25, LossBack: 0.25}, "on the way back: what the peer sends"},
		{stamp.Stats{Method: stamp.STAMP, Sent: 60, Received: 45, Loss: 0.25, LossThere: 0.1, LossBack: 0.15}, "both ways"},
		{stamp.Stats{Method: stamp.ICMP, Sent: 60, Received: 45, Loss: 0.25}, "on the way there or back"},
	} {
		v := upTunnel("tr0")
		v.Quality = c.q
		if got := lossNote(v); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.q, got, c.want)
		}
	}
	v := upTunnel("tr0")
	v.Quality = stamp.Stats{Method: stamp.STAMP, Sent: 60, Received: 54, Median: 1500 * time.Microsecond, Loss: 0.1, LossThere: 0.1, JitterBack: 20 * time.Microsecond}
	s := tunnelStatus(v)
	if s.RTTMicros == nil || *s.RTTMicros != 1500 || s.Loss == nil || *s.Loss != 0.1 || s.Quality.There.Loss != 0.1 || s.Quality.Back.JitterUS != 20 {
		t.Errorf("%+v", s)
	}
}
