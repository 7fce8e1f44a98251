package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/lab"
	"github.com/transitd/transitd/pkg/lab/probe"
)

func newCut() *cobra.Command {
	return &cobra.Command{
		Use:   "cut NODE [NODE]",
		Short: "let the fabric drop everything between two NICs, or from and to one: it dies without a word",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open(cmd)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return l.CutOff(args[0])
			}
			return l.Cut(args[0], args[1])
		},
	}
}

func newHeal() *cobra.Command {
	return &cobra.Command{
		Use:   "heal [NODE…]",
		Short: "undo every cut, or those that a node is part of",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open(cmd)
			if err != nil {
				return err
			}
			return l.Heal(args...)
		},
	}
}

func newMaintenance() *cobra.Command {
	var down time.Duration
	c := simple("maintenance INSTANCE", "one instance of a Route Server (hub-ars-0) ends its sessions and comes back", 1,
		func(cmd *cobra.Command, l *lab.Lab, args []string) error {
			if down <= 0 {
				return &exitError{exitUsage, fmt.Errorf("--down %v: it is away for some time, such as 5s", down)}
			}
			return l.Maintain(cmd.Context(), args[0], down)
		})
	c.Flags().DurationVar(&down, "down", 5*time.Second, "until it speaks again")
	return c
}

// load are the prefixes of announce, withdraw and flap.
type load struct {
	count, step int
	base, path  string
}

func (ld *load) flags(c *cobra.Command, withdraw bool) {
	c.Flags().IntVar(&ld.count, "count", 100, "how many /24")
	c.Flags().IntVar(&ld.step, "step", 1, "take each STEP-th /24: with 2 no two can be joined")
	c.Flags().StringVar(&ld.base, "base", "20.0.0.0/8", "they begin here")
	if !withdraw {
		c.Flags().StringVar(&ld.path, "path", "", `AS path behind the router's own AS, such as "64999 64998"`)
	}
}

// announcement is what the node is told.
func (ld *load) announcement(withdraw bool) (lab.Announcement, error) {
	list, err := ld.prefixes()
	if err != nil {
		return lab.Announcement{}, err
	}
	path, err := asPath(ld.path)
	return lab.Announcement{Prefixes: list, ASPath: path, Withdraw: withdraw}, err
}

// maxPath keeps a path in one AS_SEQUENCE segment (RFC 4271, section 4.3) with room for what routers put in front.
const maxPath = 200

// asPath reads AS numbers with spaces between them.
func asPath(text string) ([]uint32, error) {
	var path []uint32
	for _, field := range strings.Fields(text) {
		asn, err := strconv.ParseUint(field, 10, 32)
		if err != nil || asn == 0 {
			return nil, &exitError{exitUsage, fmt.Errorf(`--path: %q is no AS number from 1 to 4294967295, as in "64999 64998"`, field)}
		}
		path = append(path, uint32(asn))
	}
	if len(path) > maxPath {
		return nil, &exitError{exitUsage, fmt.Errorf("--path: %d AS numbers, %d at most", len(path), maxPath)}
	}
	return path, nil
}

func (ld *load) prefixes() ([]netip.Prefix, error) {
	base, err := netip.ParsePrefix(ld.base)
	if err != nil || !base.Addr().Is4() || base.Bits() > 24 {
		return nil, &exitError{exitUsage, fmt.Errorf("%q is no IPv4 prefix of /24 or shorter, such as 20.0.0.0/8", ld.base)}
	}
	if most := 1 << (24 - base.Bits()); ld.count < 1 || ld.step < 1 || ld.count > most/ld.step {
		return nil, &exitError{exitUsage, fmt.Errorf("%d prefixes, each %d-th: there are %d in %s", ld.count, ld.step, most, base)}
	}
	a := base.Masked().Addr().As4()
	first := uint32(a[0])<<16 | uint32(a[1])<<8 | uint32(a[2])
	list := make([]netip.Prefix, ld.count)
	for i := range list {
		n := first + uint32(i*ld.step)
		list[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n), 0}), 24)
	}
	return list, nil
}

func newAnnounce(verb string, withdraw bool) *cobra.Command {
	var ld load
	c := simple(verb+" NODE", "a router (onprem, avs-edge, an MSEE) "+verb+"s more prefixes, all at once", 1,
		func(cmd *cobra.Command, l *lab.Lab, args []string) error {
			a, err := ld.announcement(withdraw)
			if err != nil {
				return err
			}
			return l.Announce(cmd.Context(), args[0], a)
		})
	ld.flags(c, withdraw)
	return c
}

func newFlap() *cobra.Command {
	var ld load
	var rate int
	var length time.Duration
	c := simple("flap NODE", "a router announces and withdraws prefixes in turn", 1,
		func(cmd *cobra.Command, l *lab.Lab, args []string) error {
			a, err := ld.announcement(false)
			if err != nil {
				return err
			}
			if rate < 1 {
				return &exitError{exitUsage, fmt.Errorf("--rate %d: at least 1 change a second", rate)}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), length)
			defer cancel()
			return flap(ctx, l, args[0], a, rate)
		})
	ld.flags(c, false)
	c.Flags().IntVar(&rate, "rate", 1000, "changes a second")
	c.Flags().DurationVar(&length, "for", 5*time.Second, "how long; then all are withdrawn")
	return c
}

// flap changes a tenth of a second's worth at a time, until ctx is done.
func flap(ctx context.Context, l *lab.Lab, node string, a lab.Announcement, rate int) error {
	list := a.Prefixes
	step := min(max(1, rate/10), len(list))
	ticker := time.NewTicker(time.Second * time.Duration(step) / time.Duration(rate))
	defer ticker.Stop()
	for at := 0; ; {
		select {
		case <-ctx.Done():
			return l.Announce(context.WithoutCancel(ctx), node, lab.Announcement{Prefixes: list, Withdraw: true})
		case <-ticker.C:
		}
		a.Prefixes = list[at:min(at+step, len(list))]
		// Not given up when the time is over: it could be done after the last withdrawal then.
		if err := l.Announce(context.WithoutCancel(ctx), node, a); err != nil {
			return err
		}
		if at += len(a.Prefixes); at == len(list) {
			at, a.Withdraw = 0, !a.Withdraw
		}
	}
}

// streamed is what a stream measured.
type streamed struct {
	SchemaVersion int     `json:"schema_version"`
	Sent          int     `json:"sent"`
	Received      int     `json:"received"`
	Lost          int     `json:"lost"`
	LongestGapMS  float64 `json:"longest_gap_ms"`
	// GapStart is when the first datagram of that gap was sent; it is left out if nothing was lost.
	GapStart   time.Time `json:"gap_start,omitzero"`
	Duplicates int       `json:"duplicates"`
	Reordered  int       `json:"reordered"`
}

func newStreamed(o probe.Outage) streamed {
	return streamed{
		SchemaVersion: 1, Sent: o.Sent, Received: o.Received, Lost: o.Sent - o.Received,
		LongestGapMS: float64(o.Longest.Microseconds()) / 1000, GapStart: o.Start, Duplicates: o.Duplicates, Reordered: o.Reordered,
	}
}

func (s streamed) print(w io.Writer) error {
	since := ""
	if !s.GapStart.IsZero() {
		since = " from " + s.GapStart.Format("15:04:05.000")
	}
	_, err := fmt.Fprintf(w, "%d sent, %d received, %d lost, longest gap %.1f ms%s, %d duplicates, %d reordered\n",
		s.Sent, s.Received, s.Lost, s.LongestGapMS, since, s.Duplicates, s.Reordered)
	return err
}

func newStream() *cobra.Command {
	var interval, length time.Duration
	var format string
	c := simple("stream NODE ADDRESS", "a steady stream to a host's echo service, and how long nothing came back", 2,
		func(cmd *cobra.Command, l *lab.Lab, args []string) error {
			to, err := netip.ParseAddr(args[1])
			if err != nil || interval <= 0 || length < interval {
				return &exitError{exitUsage, errors.New("a stream needs an address, an interval and a length that is longer")}
			}
			from, err := l.Inside(args[0])
			if err != nil {
				return err
			}
			f, err := probe.StartFlow(cmd.Context(), from, to, interval)
			if err != nil {
				return err
			}
			select {
			case <-time.After(length):
			case <-cmd.Context().Done():
			}
			o, err := f.Stop()
			if err != nil {
				return err
			}
			r := newStreamed(o)
			return output(os.Stdout, format, r, r.print)
		})
	c.Flags().DurationVar(&interval, "interval", time.Millisecond, "between two datagrams")
	c.Flags().DurationVar(&length, "for", 10*time.Second, "how long")
	addOutput(c, &format)
	return c
}
