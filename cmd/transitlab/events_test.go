package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/transitd/transitd/pkg/lab/probe"
)

func TestPrefixesOfALoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		ld    load
		want  string // first and last; empty: an error
		count int
	}{
		{"from the start", load{count: 3, step: 1, base: "20.0.0.0/8"}, "20.0.0.0/24 20.0.2.0/24", 3},
		{"each second", load{count: 3, step: 2, base: "30.0.0.0/8"}, "30.0.0.0/24 30.0.4.0/24", 3},
		{"all there are", load{count: 2048, step: 1, base: "172.24.0.0/13"}, "172.24.0.0/24 172.31.255.0/24", 2048},
		{"one", load{count: 1, step: 1, base: "172.24.7.0/24"}, "172.24.7.0/24 172.24.7.0/24", 1},
		{"host bits", load{count: 1, step: 1, base: "172.24.7.9/16"}, "172.24.0.0/24 172.24.0.0/24", 1},
		{"one too many", load{count: 2049, step: 1, base: "172.24.0.0/13"}, "", 0},
		{"too many steps", load{count: 1025, step: 2, base: "172.24.0.0/13"}, "", 0},
		{"a product that does not fit an int", load{count: 1 << 32, step: 1 << 32, base: "172.24.0.0/13"}, "", 0},
		{"none", load{count: 0, step: 1, base: "172.24.0.0/13"}, "", 0},
		{"no step", load{count: 1, step: 0, base: "172.24.0.0/13"}, "", 0},
		{"longer than /24", load{count: 1, step: 1, base: "172.24.0.0/25"}, "", 0},
		{"IPv6", load{count: 1, step: 1, base: "2001:db8::/16"}, "", 0},
		{"no prefix", load{count: 1, step: 1, base: "many"}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			list, err := tt.ld.prefixes()
			if tt.want == "" {
				wantUsage(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			unique := map[netip.Prefix]bool{}
			for _, p := range list {
				unique[p] = true
			}
			if got := list[0].String() + " " + list[len(list)-1].String(); got != tt.want || len(unique) != tt.count {
				t.Errorf("%d prefixes, %s; want %d, %s", len(unique), got, tt.count, tt.want)
			}
		})
	}
}

func TestASPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want []uint32
		ok   bool
	}{
		{"", nil, true},
		{"64999", []uint32{64999}, true},
		{" 64999  4294967295 ", []uint32{64999, 4294967295}, true},
		{"0", nil, false},
		{"4294967296", nil, false},
		{"64999,64998", nil, false},
		{"-1", nil, false},
		{strings.Repeat("1 ", maxPath+1), nil, false},
	} {
		got, err := asPath(tt.text)
		if !tt.ok {
			wantUsage(t, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", tt.text, err, diff)
		}
	}
}

// What a person types wrongly ends with exit code 2, before anything is looked for or changed.
func TestUsageOfTheCommands(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("transitlab asks for root first")
	}
	for _, line := range []string{
		"up --nvas 4", "up --nvas -1", "up --nvas 2 --encapsulation none", "up --nvas 2 --scenario default-route",
		"up --ha both", "up --cap -1", "up --burst soon",
		"cut", "cut a b c", "maintenance", "maintenance hub-ars-0 --down 0s", "maintenance hub-ars-0 --down -1s",
		"announce", "announce onprem --count 0", "announce onprem --base x", "announce onprem --path x",
		"withdraw onprem --path 64999", "flap onprem --rate 0", "flap onprem --path 0",
		"stream avs", "stream avs nowhere", "stream avs 10.0.0.1 --interval 0s", "stream avs 10.0.0.1 --for 1us",
	} {
		// A name that no lab has: a command that goes on in spite of its usage ends with 3.
		if code := run(t.Context(), append(strings.Fields(line), "--name", "no-such-lab")); code != exitUsage {
			t.Errorf("transitlab %s: exit %d, want %d", line, code, exitUsage)
		}
	}
	for _, line := range []string{
		"cut hub-nva-2", "cut hub-nva transit-nva-3", "heal hub-nva-2", "maintenance hub-ars-0", "announce msee-onprem --path 64999", "stream avs 10.0.0.1",
		"kill transit-nva-2", "effective hub-nva-3", "exec hub-nva-2 -- true",
	} {
		name, rest, _ := strings.Cut(line, " ")
		args := append([]string{name, "--name", "no-such-lab"}, strings.Fields(rest)...)
		if code := run(t.Context(), args); code != exitNotUp {
			t.Errorf("transitlab %s: exit %d, want %d", line, code, exitNotUp)
		}
	}
}

// What programs read of a stream; the names are a contract.
func TestStreamed(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	s := newStreamed(probe.Outage{Sent: 10, Received: 7, Longest: 3500 * time.Microsecond, Start: start, Duplicates: 1, Reordered: 2})
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema_version":1,"sent":10,"received":7,"lost":3,"longest_gap_ms":3.5,"gap_start":"2026-01-02T03:04:05.006Z","duplicates":1,"reordered":2}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var text bytes.Buffer
	if err := s.print(&text); err != nil {
		t.Fatal(err)
	}
	if want := "10 sent, 7 received, 3 lost, longest gap 3.5 ms from 03:04:05.006, 1 duplicates, 2 reordered\n"; text.String() != want {
		t.Errorf("got  %swant %s", text.String(), want)
	}
	if b, err = json.Marshal(newStreamed(probe.Outage{Sent: 1, Received: 1})); err != nil || strings.Contains(string(b), "gap_start") {
		t.Errorf("%s, %v: nothing was lost, and a gap has a start", b, err)
	}
}

func wantUsage(t *testing.T, err error) {
	t.Helper()
	var coded *exitError
	if !errors.As(err, &coded) || coded.code != exitUsage {
		t.Errorf("error %v, want one of usage", err)
	}
}
