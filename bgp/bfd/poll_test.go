package bfd

import (
	"testing"
	"time"
)

func TestPollSequence(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.pass(0)
	r.hear(from(Init))
	// The news go out at once and carry the question, until it is answered.
	for range 3 {
		if p := r.last(); p.state != Up || !p.poll || p.final || p.minTx != 300*ms {
			t.Fatalf("sent %+v", p)
		}
		n := len(r.sent)
		r.pass(300 * ms)
		if len(r.sent) == n {
			t.Fatal("does not send at the new interval")
		}
		r.hear(from(Up))
	}
	p := from(Up)
	p.final = true
	r.hear(p)
	r.pass(300 * ms)
	if p := r.last(); p.poll {
		t.Error("asks on after the answer")
	}
}

func TestFinalAtOnceAndBesideTheTimer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.up()
	r.pass(100 * ms)
	due := r.nextTx()
	n := len(r.sent)
	p := from(Up)
	p.poll = true
	r.hear(p)
	if len(r.sent) != n+1 || !r.last().final || r.last().poll {
		t.Fatalf("sent %+v", r.sent[n:])
	}
	if !r.nextTx().Equal(due) {
		t.Errorf("the next periodic packet moved by %s", r.nextTx().Sub(due))
	}
	// A peer that polls all the time must not keep the periodic packets back.
	start := r.now
	for r.now.Sub(start) < 3*time.Second {
		r.pass(50 * ms)
		r.hear(p)
	}
	periodic := 0
	for _, q := range r.sent[n:] {
		if !q.final {
			periodic++
		}
	}
	if periodic < 9 {
		t.Errorf("%d periodic packets in 3 s", periodic)
	}
}

func TestFinalWithNews(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.pass(0)
	n := len(r.sent)
	p := from(Init)
	p.poll = true
	r.hear(p)
	// The answer, and the question of our own, which cannot be in it.
	if got := r.sent[n:]; len(got) != 2 || !got[0].final || got[0].poll || got[0].state != Up || !got[1].poll || got[1].final {
		t.Errorf("sent %+v", got)
	}
}

func TestFinalEvenToWhoWantsNothing(t *testing.T) {
	t.Parallel()
	for _, edit := range []func(*packet){
		func(p *packet) { p.minRx = 0 },
		func(p *packet) { p.demand = true },
	} {
		r := newRig(t, nil)
		r.up()
		p := from(Up)
		edit(&p)
		r.hear(p)
		n := len(r.sent)
		r.pass(800 * ms)
		if len(r.sent) != n {
			t.Errorf("sent %+v", r.sent[n:])
		}
		p.poll = true
		r.hear(p)
		if len(r.sent) != n+1 || !r.last().final {
			t.Errorf("sent %+v", r.sent[n:])
		}
		// When it is gone, its wish is gone too.
		r.pass(5 * time.Second)
		if r.state != Down || len(r.sent) < n+4 {
			t.Errorf("%s, sent %+v", r.state, r.sent[n:])
		}
	}
}
