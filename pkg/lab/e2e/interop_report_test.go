package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const interopDocument = "../../../docs/interop.md"

// interopReport is a section of docs/interop.md: a table of what the runs with
// other implementations measured.
type interopReport struct {
	section, test     string // its title, and who writes it
	introduction, end string
	least             int // rows of a whole table

	mu   sync.Mutex
	rows []string
}

// add adds a row; name is its first cell.
func (r *interopReport) add(name string, row fmt.Stringer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, "| "+name+" "+row.String())
}

func inSeconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s" }

// compare writes the section, or looks whether it names the peers that were tried.
func (r *interopReport) compare(t *testing.T) {
	t.Helper()
	slices.Sort(r.rows)
	committed, err := os.ReadFile(interopDocument)
	if err != nil {
		t.Fatal(err)
	}
	begin := fmt.Sprintf("<!-- %s: go test ./pkg/lab/e2e -run %s -update-interop -->\n", r.section, r.test)
	end := fmt.Sprintf("<!-- end of %s -->", r.section)
	head, rest, ok1 := strings.Cut(string(committed), begin)
	_, foot, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no section between %q and %q", interopDocument, begin, end)
	}
	if *updateInterop {
		if t.Failed() || len(r.rows) < r.least {
			t.Fatal("-update-interop needs all peers, and no failure")
		}
		text := head + begin + "\n## " + r.section + "\n\n" + r.introduction + strings.Join(r.rows, "\n") + r.end + "\n" + end + foot
		if err := os.WriteFile(interopDocument, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, row := range r.rows {
		cells := strings.SplitAfterN(row, "|", 4)
		if who := strings.Join(cells[:3], ""); !strings.Contains(rest, who) {
			t.Errorf("%s does not say %s: run %s with -update-interop", interopDocument, who, r.test)
		}
	}
}
