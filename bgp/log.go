package bgp

import (
	"context"
	"log/slog"
	"net/netip"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
)

// Messages of GoBGP v4.8.0 that tell what no event of it does. A test holds
// both; a version that words them otherwise fails it.
const (
	messageStranger = "Can't find configuration for a new passive connection"
	messageKnock    = "Closed an accepted connection"
	// An UPDATE with a malformed attribute (RFC 7606, section 2).
	messageMalformed = "the received Update message was treated as withdraw"
	keyPeer          = "Key" // the attribute with the peer's address
)

// logHandler gives GoBGP's log to zap, one level lower (its Info is detail
// beside our own session messages), and picks out what it says of refused
// connections.
type logHandler struct {
	next slog.Handler
	to   sink
	peer netip.Addr // of With, if the logger belongs to one peer
}

func newLogHandler(log *zap.Logger, to sink) slog.Handler {
	return &logHandler{next: zapslog.NewHandler(log.Named("gobgp").Core()), to: to}
}

// Enabled takes part in everything from Info, for the messages that are picked out.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	peer := h.peer
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == keyPeer {
			peer = parsePeer(a)
		}
		return true
	})
	switch r.Message {
	case messageStranger:
		h.to.stranger(peer)
		r.Level = slog.LevelDebug
	case messageKnock:
		h.to.knock(peer)
		r.Level = slog.LevelDebug
	case messageMalformed:
		h.to.malformed(peer)
	}
	switch {
	case r.Level >= slog.LevelError:
	case r.Level >= slog.LevelWarn:
		r.Level = slog.LevelInfo
	default:
		r.Level = slog.LevelDebug
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == keyPeer {
			c.peer = parsePeer(a)
		}
	}
	return &c
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.next = h.next.WithGroup(name)
	return &c
}

// parsePeer returns the zero Addr for what is no address.
func parsePeer(a slog.Attr) netip.Addr {
	addr, err := netip.ParseAddr(a.Value.String())
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}
