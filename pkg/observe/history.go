package observe

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/transitd/transitd/pkg/control"
)

const (
	sampleInterval = 10 * time.Second
	samples        = 360 // an hour
)

// Rate is what a tunnel carried per second, averaged since the sample before.
type Rate struct {
	Tunnel    string  `json:"tunnel"`
	TXBits    float64 `json:"tx_bits"` // of inner IP packets
	RXBits    float64 `json:"rx_bits"`
	TXPackets float64 `json:"tx_packets"`
	RXPackets float64 `json:"rx_packets"`
	Drops     float64 `json:"drops"`
}

// meter makes rates of counters.
type meter struct {
	at   time.Time
	last map[string]control.Tunnel
}

// rates compares with the call before. A tunnel that was not there then, or
// whose counters began anew, has no rate.
func (m *meter) rates(now time.Time, tunnels []control.Tunnel) []Rate {
	list := []Rate{}
	elapsed := now.Sub(m.at).Seconds()
	next := make(map[string]control.Tunnel, len(tunnels))
	for _, t := range tunnels {
		next[t.Name] = t
		old, ok := m.last[t.Name]
		anew := t.TXPackets < old.TXPackets || t.RXPackets < old.RXPackets || t.TXBytes < old.TXBytes || t.RXBytes < old.RXBytes || drops(t) < drops(old)
		if !ok || elapsed <= 0 || anew {
			continue
		}
		list = append(list, Rate{
			Tunnel:    t.Name,
			TXBits:    float64(t.TXBytes-old.TXBytes) * 8 / elapsed,
			RXBits:    float64(t.RXBytes-old.RXBytes) * 8 / elapsed,
			TXPackets: float64(t.TXPackets-old.TXPackets) / elapsed,
			RXPackets: float64(t.RXPackets-old.RXPackets) / elapsed,
			Drops:     float64(drops(t)-drops(old)) / elapsed,
		})
	}
	m.at, m.last = now, next
	return list
}

func drops(t control.Tunnel) (n uint64) {
	for _, d := range t.Drops {
		n += d
	}
	return n
}

// History is the last hour, for the page's sparklines.
type History struct {
	IntervalS int             `json:"interval_s"`
	Tunnels   []TunnelHistory `json:"tunnels"`
}

// TunnelHistory has a value for each sample, oldest first; null where the tunnel was not there.
type TunnelHistory struct {
	Name   string     `json:"name"`
	TXBits []*float64 `json:"tx_bits"`
	RXBits []*float64 `json:"rx_bits"`
	Drops  []*float64 `json:"drops"`
	Up     []*float64 `json:"up"` // 1 or 0
}

// history holds the samples of all tunnels that there are.
type history struct {
	mu      sync.Mutex
	meter   meter
	tunnels []TunnelHistory
}

// add takes a sample. Tunnels that are gone are forgotten.
func (h *history) add(now time.Time, tunnels []control.Tunnel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since := now.Sub(h.meter.at); since >= 0 && since < sampleInterval/2 {
		return // the server was moved just now
	}
	rates := h.meter.rates(now, tunnels)
	kept := make([]TunnelHistory, 0, len(tunnels))
	for _, t := range tunnels {
		th := TunnelHistory{Name: t.Name}
		if i := slices.IndexFunc(h.tunnels, func(o TunnelHistory) bool { return o.Name == t.Name }); i >= 0 {
			th = h.tunnels[i]
		}
		var tx, rx, dropped *float64
		if i := slices.IndexFunc(rates, func(r Rate) bool { return r.Tunnel == t.Name }); i >= 0 {
			tx, rx, dropped = &rates[i].TXBits, &rates[i].RXBits, &rates[i].Drops
		}
		up := 0.0
		if t.State == control.TunnelUp {
			up = 1
		}
		push(&th.TXBits, tx)
		push(&th.RXBits, rx)
		push(&th.Drops, dropped)
		push(&th.Up, &up)
		kept = append(kept, th)
	}
	h.tunnels = kept
}

// push appends a value and forgets the one of an hour ago.
func push(list *[]*float64, v *float64) {
	if len(*list) >= samples {
		*list = slices.Delete(*list, 0, len(*list)-samples+1)
	}
	*list = append(*list, v)
}

// view copies the samples.
func (h *history) view() History {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := History{IntervalS: int(sampleInterval / time.Second), Tunnels: make([]TunnelHistory, len(h.tunnels))}
	for i, t := range h.tunnels {
		v.Tunnels[i] = TunnelHistory{t.Name, slices.Clone(t.TXBits), slices.Clone(t.RXBits), slices.Clone(t.Drops), slices.Clone(t.Up)}
	}
	return v
}

// sample fills the history until ctx is done.
func (s *Server) sample(ctx context.Context) {
	ticker := time.NewTicker(sampleInterval)
	defer ticker.Stop()
	for {
		s.history.add(time.Now(), s.node.Status().Tunnels)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
