package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeProc makes a folder that stands for /proc/sys.
func fakeProc(t *testing.T, values map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for k, v := range values {
		setFake(t, root, k, v)
	}
	return root
}

func setFake(t *testing.T, root, key, value string) {
	t.Helper()
	file := filepath.Join(root, key)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	// As the kernel shows it, with an end of line.
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFakes(t *testing.T, root string) map[string]string {
	t.Helper()
	values := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		key, _ := filepath.Rel(root, p)
		values[key] = strings.TrimSpace(string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestSysctls(t *testing.T) {
	t.Parallel()
	before := map[string]string{"forward": "0", "card/filter": "1", "card/redirects": "0"}
	root := fakeProc(t, before)
	want := []Sysctl{{"forward", "1"}, {"card/filter", "2"}, {"card/redirects", "0"}, {"tr0/filter", "2"}}
	s := newSysctls(root, nil)
	if err := s.apply(want); err != nil {
		t.Fatal(err)
	}
	// What was right already is not ours to undo, and an interface that is not there gets no file.
	if d := diff(map[string]string{"forward": "1", "card/filter": "2", "card/redirects": "0"}, readFakes(t, root)); d != "" {
		t.Errorf("applied (-want +got):\n%s", d)
	}
	undo := map[string]string{"forward": "0", "card/filter": "1"}
	if d := diff(undo, s.remembered()); d != "" {
		t.Errorf("remembered (-want +got):\n%s", d)
	}
	// Somebody sets one back, we set it again: the first value is the one to go back to.
	setFake(t, root, "card/filter", "0")
	if err := s.apply(want); err != nil {
		t.Fatal(err)
	}
	s.remembered()["forward"] = "9" // a copy
	if d := diff(undo, s.remembered()); d != "" {
		t.Errorf("remembered after the second apply (-want +got):\n%s", d)
	}
	if err := s.restore(want); err != nil {
		t.Fatal(err)
	}
	if d := diff(before, readFakes(t, root)); d != "" {
		t.Errorf("restored (-want +got):\n%s", d)
	}
	if left := s.remembered(); len(left) != 0 {
		t.Errorf("left to undo: %v", left)
	}
}

func TestSysctlsRestore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		undo, now map[string]string
		want      map[string]string
	}{
		{"ours", map[string]string{"a": "0"}, map[string]string{"a": "1"}, map[string]string{"a": "0"}},
		// Who changed it after us meant it.
		{"somebody else's by now", map[string]string{"a": "0"}, map[string]string{"a": "2"}, map[string]string{"a": "2"}},
		{"back already", map[string]string{"a": "0"}, map[string]string{"a": "0"}, map[string]string{"a": "0"}},
		{"interface is gone", map[string]string{"a": "0", "tr0/x": "0"}, map[string]string{"a": "1"}, map[string]string{"a": "0"}},
		// A reload needs it no longer: what we set it to is not known any more, but it was us.
		{"not wanted any more", map[string]string{"b": "0"}, map[string]string{"b": "1"}, map[string]string{"b": "0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := fakeProc(t, c.now)
			s := newSysctls(root, c.undo)
			if err := s.restore([]Sysctl{{"a", "1"}}); err != nil {
				t.Fatal(err)
			}
			if d := diff(c.want, readFakes(t, root)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestSysctlsAfterCrash checks that a predecessor's old value is the one that
// comes back: what is found now is what the predecessor set.
func TestSysctlsAfterCrash(t *testing.T) {
	t.Parallel()
	root := fakeProc(t, map[string]string{"a": "1", "b": "7"})
	s := newSysctls(root, map[string]string{"a": "0", "../outside": "x", "/etc/x": "x"})
	if d := diff(map[string]string{"a": "0"}, s.remembered()); d != "" {
		t.Errorf("remembered, without paths that lead out of /proc/sys (-want +got):\n%s", d)
	}
	want := []Sysctl{{"a", "1"}, {"b", "1"}}
	if err := errors.Join(s.apply(want), s.restore(want)); err != nil {
		t.Fatal(err)
	}
	if d := diff(map[string]string{"a": "0", "b": "7"}, readFakes(t, root)); d != "" {
		t.Errorf("restored (-want +got):\n%s", d)
	}
}

// TestSysctlsErrors checks that one setting that cannot be read or written does not keep the others from it.
func TestSysctlsErrors(t *testing.T) {
	t.Parallel()
	root := fakeProc(t, map[string]string{"folder/x": "1", "b": "0"})
	s := newSysctls(root, nil)
	want := []Sysctl{{"folder", "1"}, {"b", "1"}} // a folder cannot be read as a file
	if err := s.apply(want); err == nil || !strings.Contains(err.Error(), "set sysctl folder to 1") {
		t.Errorf("apply: %v", err)
	}
	if d := diff(map[string]string{"b": "0"}, s.remembered()); d != "" {
		t.Errorf("remembered (-want +got):\n%s", d)
	}
	s.undo["folder"] = "0"
	if err := s.restore(want); err == nil || !strings.Contains(err.Error(), "restore sysctl folder to 0") {
		t.Errorf("restore: %v", err)
	}
	if got := readFakes(t, root)["b"]; got != "0" {
		t.Errorf("b is %s", got)
	}
}

func TestWantedSysctls(t *testing.T) {
	t.Parallel()
	v4, v6 := wantedSysctls("eth0", []string{"tr0"}, false), wantedSysctls("eth0", []string{"tr0"}, true)
	var more []string
	for _, s := range v6 {
		if !slices.Contains(v4, s) {
			more = append(more, s.Key+"="+s.Value)
		}
	}
	// accept_ra first: with forwarding on and accept_ra 1 a router advertisement in between would be lost.
	if d := diff([]string{"net/ipv6/conf/eth0/accept_ra=2", "net/ipv6/conf/all/forwarding=1"}, more); d != "" {
		t.Errorf("what IPv6 adds (-want +got):\n%s", d)
	}
	if len(v6) != len(v4)+2 || !slices.Contains(v4, Sysctl{"net/ipv4/conf/tr0/rp_filter", "2"}) || !slices.Contains(v4, Sysctl{"net/ipv4/ip_forward", "1"}) {
		t.Errorf("IPv4: %v", v4)
	}
	// The keys are files of this machine's kernel; a wrong one would be passed over as an interface that is gone.
	for _, s := range wantedSysctls("lo", nil, true) {
		if _, err := os.Stat(filepath.Join(procSys, s.Key)); err != nil {
			t.Error(err)
		}
	}
}
