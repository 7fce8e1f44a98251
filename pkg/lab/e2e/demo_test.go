package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestDemo runs what "make demo" runs, and looks at what it measured.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root and network namespaces: left out by -short")
	}
	for _, encapsulation := range []string{"vxlan", "wireguard", "ipsec"} {
		t.Run(encapsulation, func(t *testing.T) { demo(t, encapsulation) })
	}
}

func demo(t *testing.T, encapsulation string) {
	l := &lab{t: t, name: fmt.Sprintf("e2e%dd%c", os.Getpid(), encapsulation[0])}
	start := time.Now()
	out := l.must(l.cmd("demo", "-o", "json", "--encapsulation", encapsulation))
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("the demo took %v", took)
	}
	var r struct {
		SchemaVersion int `json:"schema_version"`
		OK            bool
		Steps         []struct {
			Name     string
			OK       bool
			Measured map[string]any
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r.SchemaVersion != 1 || !r.OK || len(r.Steps) < 6 {
		t.Errorf("schema_version %d, ok %v, %d steps:\n%s", r.SchemaVersion, r.OK, len(r.Steps), out)
	}
	for _, s := range r.Steps {
		t.Logf("%s: ok %v, measured %v", s.Name, s.OK, s.Measured)
	}
	l.checkNothingLeft()
}
