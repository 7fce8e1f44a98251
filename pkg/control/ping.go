package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// What a ping does if nothing else is asked for, and the most that may be.
const (
	DefaultPingCount    = 10
	MaxPingCount        = 1000
	DefaultPingInterval = time.Second
	MinPingInterval     = 10 * time.Millisecond
	MaxPingSize         = 9000
)

// PingQuery asks for probes inside a tunnel and beside it.
type PingQuery struct {
	Tunnel   string        // empty: the only one
	Count    int           // 0: DefaultPingCount
	Interval time.Duration // 0: DefaultPingInterval
	Size     int           // bytes of a probe's IP packet, 0: the smallest
}

// PingRound is what came back for one probe inside the tunnel and one on the underlay.
type PingRound struct {
	Number int `json:"number"` // from 1
	// TunnelUS and UnderlayUS are round trips; null if nothing came back before the next round.
	TunnelUS   *uint64 `json:"tunnel_us"`
	UnderlayUS *uint64 `json:"underlay_us"`
}

// PingSide is what the probes of one way came to.
type PingSide struct {
	Target string  `json:"target"`
	Loss   float64 `json:"loss"` // 0 to 1, of round trips
	// Median is of the round trips that there were.
	MedianUS uint64  `json:"rtt_us"`
	Quality  Quality `json:"quality"`
}

// Pinged is the answer of "transitctl ping".
type Pinged struct {
	Version
	Tunnel   string      `json:"tunnel"`
	Rounds   []PingRound `json:"rounds"`
	Inside   PingSide    `json:"inside"`
	Underlay PingSide    `json:"underlay"`
	// OK says that all probes inside the tunnel came back.
	OK bool `json:"ok"`
	// Verdict is a sentence for people.
	Verdict string `json:"verdict"`
}

func (s *Server) ping(_ *http.Request, v url.Values) (any, error) {
	q, err := parsePing(v)
	if err != nil {
		return nil, &Error{Code: CodeBadRequest, Message: err.Error()}
	}
	// Answers may be late.
	return &job{limit: time.Duration(q.Count)*q.Interval + writeTimeout, run: func(ctx context.Context, tell func(string, any)) (any, error) {
		return s.daemon.Ping(ctx, q, func(r PingRound) { tell("round", r) })
	}}, nil
}

func parsePing(v url.Values) (q PingQuery, err error) {
	q.Tunnel = v.Get("tunnel")
	if q.Count, err = number(v, "count", DefaultPingCount, MaxPingCount); err != nil {
		return q, err
	}
	ms, err := number(v, "interval_ms", int(DefaultPingInterval/time.Millisecond), int(time.Minute/time.Millisecond))
	if err != nil {
		return q, err
	}
	if q.Interval = time.Duration(ms) * time.Millisecond; q.Interval < MinPingInterval {
		return q, fmt.Errorf("the interval is at least %s", MinPingInterval)
	}
	if v.Has("size") {
		q.Size, err = number(v, "size", 0, MaxPingSize)
	}
	return q, err
}

// Ping probes a tunnel and what is below it, and tells of each round.
func (c *Client) Ping(ctx context.Context, q PingQuery, each func(PingRound)) (p Pinged, err error) {
	v := url.Values{"tunnel": {q.Tunnel}}
	for name, n := range map[string]int{"count": q.Count, "size": q.Size, "interval_ms": int(q.Interval / time.Millisecond)} {
		if n != 0 {
			v.Set(name, strconv.Itoa(n))
		}
	}
	count, interval := max(q.Count, DefaultPingCount), max(q.Interval, DefaultPingInterval)
	err = c.jobWithin(ctx, time.Duration(count)*interval+writeTimeout, "/v1/ping", v, &p, map[string]func([]byte) error{
		"round": func(b []byte) error {
			var r PingRound
			if err := json.Unmarshal(b, &r); err != nil {
				return err
			}
			each(r)
			return nil
		},
	})
	return p, err
}
