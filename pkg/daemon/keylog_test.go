package daemon

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/events"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// TestKeyLogFile: secrets go to a new file, or to one that is ours alone; for
// another one the error says what is wrong with it and what would be right.
func TestKeyLogFile(t *testing.T) {
	t.Parallel()
	ours := os.Geteuid()
	file := func(mode os.FileMode) func(string) error {
		return func(path string) error {
			if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
				return err
			}
			return os.Chmod(path, mode)
		}
	}
	for name, c := range map[string]struct {
		make func(path string) error
		ours int
		want string // in the error; empty: it is taken
	}{
		"new":                   {func(string) error { return nil }, ours, ""},
		"ours":                  {file(0o600), ours, ""},
		"readable by all":       {file(0o644), ours, "has mode 0644: others than its owner may read or change it; delete it"},
		"readable by the group": {file(0o640), ours, "has mode 0640"},
		"somebody else's":       {file(0o600), ours + 1, "is not ours (user"},
		"link":                  {func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "else"), path) }, ours, "is a symbolic link: delete it, or name another folder"},
		"FIFO":                  {func(path string) error { return unix.Mkfifo(path, 0o600) }, ours, "open the key log"},
		"folder":                {func(path string) error { return os.Mkdir(path, 0o700) }, ours, "open the key log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "tr0.ike.keys")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			f, err := openKeyLog(path, c.ours)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteString("a secret\n")
			if info, serr := f.Stat(); err != nil || serr != nil || info.Mode() != 0o600 || f.Close() != nil {
				t.Errorf("%v, %v, %v", info, serr, err)
			}
			if text, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(text), "a secret\n") || name == "ours" && !strings.HasPrefix(string(text), "before\n") {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

// TestKeyLogIsLoud: who starts with --keylog reads it in the log and among the
// events; a tunnel whose file is not ours alone is not made at all.
func TestKeyLogIsLoud(t *testing.T) {
	t.Parallel()
	private, err := wireguard.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := wireguard.NewPrivateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := TunnelPlan{Name: "tr0", WireGuard: &wireguard.Config{MTU: 1400, Remote: addr("198.51.100.4"), PrivateKey: private, PeerPublicKey: theirs.Public()}}
	list := &events.Log{}
	log, logs := observed()
	dir := t.TempDir()
	start := func(folder string) error {
		e := &endpoints{log: log, keyLogs: folder, keysLogged: newChronicle(list).keysLogged}
		_, en, err := e.codec(p)
		if err != nil {
			return err
		}
		return en.close()
	}
	told := func() (texts []string) {
		for _, e := range list.Since(0) {
			texts = append(texts, e.Text)
		}
		return texts
	}
	if err := start(""); err != nil || len(messages(logs)) > 0 || len(told()) > 0 {
		t.Fatalf("without a key log: %v, %q", err, told())
	}
	if err := start(dir); err != nil {
		t.Fatal(err)
	}
	want := []string{"tunnel tr0: its secrets are being written to a file (--keylog): whoever has it can read the traffic"}
	if d := diff(want, messages(logs)) + diff(want, told()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if err := os.Chmod(filepath.Join(dir, "tr0.wg.keys"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := start(dir); err == nil || len(messages(logs)) > 0 {
		t.Errorf("a file for everybody is taken: %v", err)
	}
}
