package stamp

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func start() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 250_000_000, time.UTC) }

func TestPackets(t *testing.T) {
	t.Parallel()
	now := start()
	q := request{seq: 7, sent: now}.append(nil, 100)
	if len(q) != 100 {
		t.Fatalf("%d bytes", len(q))
	}
	// RFC 8762, figure 2: number, 64 bits of time, error estimate, zeros.
	if want := []byte{0, 0, 0, 7, 0xee, 0xae, 0xa9, 0x40, 0x40, 0, 0, 0, 32, 1, 0, 0}; !cmp.Equal(q[:16], want) {
		t.Errorf("% x, want % x", q[:16], want)
	}
	a, ok := reflect(nil, q, 9, 63, now.Add(5*time.Millisecond), now.Add(6*time.Millisecond))
	if !ok || len(a) != len(q) {
		t.Fatalf("%v, %d bytes", ok, len(a))
	}
	r, ok := parseReply(a)
	want := reply{seq: 9, received: now.Add(5 * time.Millisecond), sent: now.Add(6 * time.Millisecond), senderSeq: 7, senderSent: now, senderTTL: 63}
	same := cmp.Comparer(func(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Nanosecond })
	if d := cmp.Diff(want, r, cmp.AllowUnexported(reply{}), same); !ok || d != "" {
		t.Errorf("%s", d)
	}
	for _, b := range [][]byte{nil, q[:PacketLen-1]} {
		if _, ok := reflect(nil, b, 1, 1, now, now); ok {
			t.Errorf("%d bytes are reflected", len(b))
		}
		if _, ok := parseReply(b); ok {
			t.Errorf("%d bytes are a reply", len(b))
		}
	}
	for _, at := range []time.Time{time.Unix(0, 0), now, time.Date(2035, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(2037, 1, 1, 0, 0, 0, 999_999_999, time.UTC)} {
		var b [8]byte
		putTime(b[:], at)
		if got := getTime(b[:]); got.Sub(at).Abs() > time.Nanosecond {
			t.Errorf("%s became %s", at, got)
		}
	}
}

// play sends n probes, one a second, to a reflector whose clock is an hour off. there and
// back say which are lost; back probes are numbered by the reflector.
func play(n int, there, back func(i int) bool) (*window, time.Time) {
	w, now := &window{size: 60}, start()
	peer := uint32(1000)
	for i := range n {
		now = now.Add(time.Second)
		w.sent(uint32(i), now)
		if there(i) {
			continue
		}
		arrives := now.Add(time.Hour + 4*time.Millisecond + time.Duration(i%2)*time.Millisecond)
		r := &reply{seq: peer, received: arrives, sent: arrives.Add(time.Second / 2), senderSeq: uint32(i)}
		peer++
		if !back(i) {
			w.answered(uint32(i), now.Add(time.Second/2+10*time.Millisecond), r)
		}
	}
	return w, now.Add(patience + time.Second)
}

func TestWindow(t *testing.T) {
	t.Parallel()
	never := func(int) bool { return false }
	each := func(k int) func(int) bool { return func(i int) bool { return i%k == k/2 } }
	for _, c := range []struct {
		name        string
		n           int
		there, back func(int) bool
		want        Stats
	}{
		{"clean", 50, never, never, Stats{Sent: 50, Received: 50}},
		{"lost on the way there", 51, each(5), never, Stats{Sent: 51, Received: 41, Loss: 10. / 51, LossThere: 10. / 50}},
		{"lost on the way back", 51, never, each(5), Stats{Sent: 51, Received: 41, Loss: 10. / 51, LossBack: 10. / 50}},
		{"only the last 60 count", 120, func(i int) bool { return i < 60 }, never, Stats{Sent: 60, Received: 60}},
		{"all lost", 20, func(int) bool { return true }, never, Stats{Sent: 20, Loss: 1}},
		{"the last ones", 60, func(i int) bool { return i >= 30 }, never, Stats{Sent: 60, Received: 30, Loss: 0.5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, now := play(c.n, c.there, c.back)
			got := w.stats(now, STAMP)
			if c.want.Received > 0 {
				if got.Min != 10*time.Millisecond || got.Median != got.Min || got.P99 != got.Min || got.Last != got.Min {
					t.Errorf("round trips %+v, want 10 ms: what the reflector takes is its own", got)
				}
				if got.JitterThere < 100*time.Microsecond || got.JitterThere > time.Millisecond {
					t.Errorf("jitter %s, the packets are late by 0 and 1 ms in turn", got.JitterThere)
				}
			}
			got.Method, got.Last, got.Min, got.Median, got.P99, got.JitterThere, got.JitterBack = "", 0, 0, 0, 0, 0, 0
			close := cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })
			if d := cmp.Diff(c.want, got, close); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// What is not due yet is not lost; what comes twice, late or unasked does not count.
func TestWindowAnswers(t *testing.T) {
	t.Parallel()
	w, now := &window{size: 3}, start()
	for i := range uint32(5) {
		w.sent(1<<32-2+i, now)
	}
	if s := w.stats(now.Add(time.Second), ICMP); s.Sent != 0 || s.Loss != 0 {
		t.Errorf("%+v", s)
	}
	if _, ok := w.answered(1<<32-2, now, nil); ok {
		t.Error("one that has left the window")
	}
	if rtt, ok := w.answered(0, now.Add(time.Millisecond), nil); !ok || rtt != time.Millisecond {
		t.Errorf("%v %v", rtt, ok)
	}
	if _, ok := w.answered(0, now.Add(time.Millisecond), nil); ok {
		t.Error("twice")
	}
	if _, ok := w.answered(2, now.Add(patience+1), nil); ok {
		t.Error("late")
	}
	if s := w.stats(now.Add(patience+1), ICMP); s.Sent != 3 || s.Received != 1 {
		t.Errorf("%+v", s)
	}
}

// A reflector that was restarted counts from the beginning: no direction is blamed.
func TestReflectorRestarted(t *testing.T) {
	t.Parallel()
	w, now := &window{size: 60}, start()
	for i := range uint32(10) {
		w.sent(i, now)
		at := now.Add(time.Millisecond)
		w.answered(i, at, &reply{seq: (i + 5) % 10, received: at, sent: at})
		now = now.Add(time.Second)
	}
	if s := w.stats(now, STAMP); s.Loss != 0 || s.LossThere != 0 || s.LossBack != 0 {
		t.Errorf("%+v", s)
	}
}

func FuzzReply(f *testing.F) {
	a, _ := reflect(nil, request{seq: 1, sent: start()}.append(nil, 0), 2, 3, start(), start())
	f.Add(a)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := parseReply(b)
		if ok != (len(b) >= PacketLen) {
			t.Fatal(ok)
		}
		if back, ok := reflect(nil, b, r.seq, 1, r.received, r.sent); ok && len(back) != len(b) {
			t.Fatal("not as long as it was")
		}
		w := &window{size: 4}
		w.sent(r.senderSeq, start())
		w.answered(r.senderSeq, start(), &r)
		w.stats(start(), STAMP)
	})
}
