package pmtud

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// answersPerSecond bounds what a peer can make us send, answerBurst how many
// answers may go at once: a measurement asks 32 times in a row, three times.
const (
	answersPerSecond = 100
	answerBurst      = 200
)

// respond answers a request that arrived as an IP packet of n bytes: with what
// arrived, in a packet as long as was asked for.
func (s *Session) respond(m message, n int) {
	s.mu.Lock()
	ok := s.answered.take(time.Now())
	s.mu.Unlock()
	if !ok {
		return
	}
	a := s.introduce(answer)
	a.token, a.got = m.token, uint16(min(n, 0xffff))
	_, err := s.tunnel.Probe(a.datagram(s.cfg.Local, s.cfg.Peer, int(m.want)))
	if errors.Is(err, unix.EMSGSIZE) {
		a.code = codeTooLong
		_, _ = s.tunnel.Probe(a.datagram(s.cfg.Local, s.cfg.Peer, 0)) // lost like any other
	}
}

// bucket is a token bucket; the zero value is full.
type bucket struct {
	used float64
	at   time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*answersPerSecond)
	b.at = now
	if b.used+1 > answerBurst {
		return false
	}
	b.used++
	return true
}
