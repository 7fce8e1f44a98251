package bgp

import (
	"fmt"
	"testing"
	"time"
)

func TestPacer(t *testing.T) {
	t.Parallel()
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var p pacer
	for i, c := range []struct {
		at                        float64
		announced, changed, fresh int
		changes, news             int
	}{
		{0, 0, 0, 500, 0, 500},     // the first time, and a refresh would still fit
		{0.5, 500, 0, 10, 0, 0},    // now it would not
		{1, 500, 500, 0, 0, 0},     // nor if all of them changed
		{2.1, 500, 500, 0, 500, 0}, // another burst: a change of everything does not wait for a refresh
		{2.5, 500, 500, 0, 0, 0},   // and again: too much
		{4.2, 500, 500, 0, 500, 0},
		{9, 500, 0, 100, 0, 20}, // with half the cap announced there is no room for a refresh: slowly on
		{9.1, 520, 0, 80, 0, 0},
	} {
		if changes, news := p.allow(at(c.at), c.announced, c.changed, c.fresh, 1000, 500); changes != c.changes || news != c.news {
			t.Errorf("step %d: %d and %d, want %d and %d", i, changes, news, c.changes, c.news)
		}
	}
	p.note(at(20), 500, 500) // a ROUTE-REFRESH
	if got, _ := p.allow(at(20.1), 500, 500, 0, 1000, 500); got != 0 {
		t.Errorf("after a refresh: %d", got)
	}
	if got, _ := p.allow(at(22.1), 500, 500, 0, 1000, 500); got != 500 {
		t.Errorf("two seconds after a refresh: %d", got)
	}
}

// What the Route Server cannot take now it is told when the burst is over.
func TestSpeakerPaces(t *testing.T) {
	c := hubConfig()
	c.Neighbors[0].Cap = 20
	bubble(t, c, func(b *bench) {
		b.bothUp()
		tell := func(asn int) {
			var routes []string
			for i := range 10 {
				routes = append(routes, fmt.Sprintf("10.50.%d.0/24 64513 %d", 2*i, asn))
			}
			b.tell("tr0", farNVA, routes...)
			b.settle()
		}
		tell(65020)
		if n := len(b.all("hub-ars: announce")); n != 10 {
			b.t.Errorf("%d announced", n)
		}
		time.Sleep(burstPause)
		tell(65030)
		if n := len(b.all("hub-ars: announce")); n != 10 {
			b.t.Errorf("%d announced with another path", n)
		}
		tell(65040)
		if n := len(b.all("hub-ars: announce")); n != 0 {
			b.t.Errorf("%d announced beyond the cap", n)
		}
		time.Sleep(burstPause + tick)
		b.settle()
		if n := len(b.all("hub-ars: announce")); n != 10 {
			b.t.Errorf("%d announced after the burst", n)
		}
		time.Sleep(2 * burstPause)
		b.fakes.mu.Lock()
		b.refreshed = 2
		b.fakes.mu.Unlock()
		tell(65050)
		if n := len(b.all("hub-ars: announce")); n != 0 {
			b.t.Errorf("%d announced right after a ROUTE-REFRESH", n)
		}
	})
}

// An aggregate that is not needed any more goes, though what it stood for has to
// wait for the next burst.
func TestSpeakerGivesAggregatesUp(t *testing.T) {
	c := hubConfig()
	c.Neighbors[0].Cap = 40
	bubble(t, c, func(b *bench) {
		b.bothUp()
		var few, many, gone []string
		for i := range 16 {
			few = append(few, fmt.Sprintf("10.50.%d.0/24 64513 65020", i))
			many = append(many, fmt.Sprintf("10.51.%d.0/24 64513 65020", i))
			gone = append(gone, fmt.Sprintf("-10.51.%d.0/24", i))
		}
		announced := func() (n, aggregates int) {
			for range 4 {
				time.Sleep(burstPause + tick)
				b.settle()
			}
			rows, err := b.Announced("hub-ars", false)
			if err != nil {
				b.t.Fatal(err)
			}
			for _, r := range rows {
				if r.Rule == ruleAggregate {
					aggregates++
				}
			}
			return len(rows), aggregates
		}
		b.tell("tr0", farNVA, few...)
		if n, aggregates := announced(); n != 16 || aggregates != 0 {
			b.t.Errorf("before: %d announced, %d of them aggregates", n, aggregates)
		}
		b.tell("tr0", farNVA, many...)
		if n, aggregates := announced(); n > 20 || aggregates == 0 {
			b.t.Errorf("when there are too many: %d announced, %d of them aggregates", n, aggregates)
		}
		b.tell("tr0", farNVA, gone...)
		if n, aggregates := announced(); n != 16 || aggregates != 0 {
			b.t.Errorf("after: %d announced, %d of them aggregates", n, aggregates)
		}
	})
}
