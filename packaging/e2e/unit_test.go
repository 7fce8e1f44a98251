package e2e

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUnitIsClosed holds what the unit leaves open below 3 of 10.
func TestUnitIsClosed(t *testing.T) {
	if testing.Short() {
		t.Skip("needs systemd-analyze: left out by -short")
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=yes", "--threshold=29", "../transitd@.service").CombinedOutput()
	level := regexp.MustCompile(`Overall exposure level.*: ([0-9.]+) `).FindStringSubmatch(string(out))
	if err != nil || level == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("exposure %s", level[1])
}

// TestScriptsParse also asks for nothing that only bash has.
func TestScriptsParse(t *testing.T) {
	if testing.Short() {
		t.Skip("needs dash: left out by -short")
	}
	scripts, err := filepath.Glob("../scripts/*")
	if err != nil || len(scripts) != 3 {
		t.Fatalf("%q, %v", scripts, err)
	}
	for _, s := range scripts {
		if out, err := exec.CommandContext(t.Context(), "dash", "-n", s).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%s: %v %s", s, err, out)
		}
	}
}
