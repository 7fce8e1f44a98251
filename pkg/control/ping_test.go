package control

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestPing(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer start(t, NewServer(newFake(), nil), l)()
	c, rounds := NewClient(socket), 0
	p, err := c.Ping(t.Context(), PingQuery{Tunnel: "tr0", Count: 3, Interval: 20 * time.Millisecond}, func(r PingRound) {
		if rounds++; r.Number != rounds || *r.TunnelUS != 1500 || r.UnderlayUS != nil {
			t.Errorf("%+v", r)
		}
	})
	if err != nil || rounds != 3 || p.Tunnel != "tr0" || !p.OK || p.Inside.Quality.Sent != 3 {
		t.Errorf("%d rounds, %+v, %v", rounds, p, err)
	}
	for _, q := range []PingQuery{{Count: MaxPingCount + 1}, {Interval: time.Millisecond}, {Size: MaxPingSize + 1}, {Interval: 2 * time.Minute}} {
		if _, err := c.Ping(t.Context(), q, func(PingRound) {}); !isCode(err, CodeBadRequest) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
