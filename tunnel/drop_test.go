package tunnel

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The names are labels of metrics and keys of the API's JSON: unique, snake_case.
func TestEveryReasonHasAName(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]DropReason{}
	for r := DropNone; r < NumDropReasons; r++ {
		name := r.String()
		if !snake.MatchString(name) {
			t.Errorf("reason %d: name %q", r, name)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("reasons %d and %d: both %q", other, r, name)
		}
		seen[name] = r
	}
	if got := DropNone.String(); got != "none" {
		t.Errorf("the zero value is %q", got)
	}
	if got := NumDropReasons.String(); !strings.HasPrefix(got, "unknown(") {
		t.Errorf("beyond the last: %q", got)
	}
}

// An operator who sees a counter rise looks here for what it means.
func TestEveryReasonIsDocumented(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "drop.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	documented := 0
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Drop") || spec.Names[0].Name == "DropNone" {
			return true
		}
		if strings.TrimSpace(spec.Comment.Text()) == "" {
			t.Errorf("%s: no comment", spec.Names[0].Name)
		}
		documented++
		return true
	})
	if want := int(NumDropReasons) - 1; documented != want {
		t.Errorf("%d constants found, there are %d reasons", documented, want)
	}
}

func TestReasonsAreAllButNone(t *testing.T) {
	list := Reasons()
	if len(list) != int(NumDropReasons)-1 {
		t.Fatalf("%d reasons of %d", len(list), NumDropReasons-1)
	}
	for i, r := range list {
		if r != DropReason(i+1) {
			t.Errorf("place %d: %v", i, r)
		}
	}
}

func TestStatsAddUpTheLoops(t *testing.T) {
	var tx, tx2, rx Counters
	tx.Packet(3, 300)
	tx.Packet(1, 50)
	tx.Drop(DropTooBig, 2)
	tx2.Packet(10, 1000)
	tx2.Drop(DropTooBig, 5)
	tx2.Drop(DropNone, 7) // no drop, so never reported
	rx.Packet(4, 40)
	rx.Drop(DropShort, 1)
	rx.Drop(DropTUNQueue, 9) // the last one of the list
	rx.Drop(DropWrongSource, 0)

	var got Stats
	got.AddTX(&tx)
	got.AddTX(&tx2)
	got.AddRX(&rx)
	want := Stats{
		TXPackets: 14, TXBytes: 1350, RXPackets: 4, RXBytes: 40,
		Drops: map[string]uint64{"too_big": 7, "short": 1, "tun_queue_full": 9},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The API renders the map: without any drop it is empty, not null.
func TestStatsOfIdleTunnel(t *testing.T) {
	var got Stats
	got.AddTX(new(Counters))
	if diff := cmp.Diff(Stats{Drops: map[string]uint64{}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Loops count while somebody reads; -race judges, and a reader sees numbers only grow.
func TestCountersAreReadWhileWritten(t *testing.T) {
	const rounds = 5000
	var loops [2]Counters
	var writers sync.WaitGroup
	for i := range loops {
		writers.Go(func() {
			for range rounds {
				loops[i].Packet(2, 100)
				loops[i].Drop(DropECNCENotECT, 1)
			}
		})
	}
	read := func() (s Stats) {
		for i := range loops {
			s.AddRX(&loops[i])
		}
		return s
	}
	var last Stats
	for range 200 {
		now := read()
		if now.RXPackets < last.RXPackets || now.RXBytes < last.RXBytes || now.Drops["ecn_ce_not_ect"] < last.Drops["ecn_ce_not_ect"] {
			t.Fatalf("%+v after %+v", now, last)
		}
		last = now
	}
	writers.Wait()
	want := Stats{RXPackets: 4 * rounds, RXBytes: 200 * rounds, Drops: map[string]uint64{"ecn_ce_not_ect": 2 * rounds}}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	var c Counters
	if n := testing.AllocsPerRun(100, func() { c.Packet(1, 100); c.Drop(DropShort, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
