package secret

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	root, user := ids{}, ids{1000, 1000}
	handed := ids{0, 999}
	for name, c := range map[string]struct {
		mode fs.FileMode
		of   ids
		want string // part of the error; empty: none
	}{
		"root's own":                {0o600, root, ""},
		"read-only":                 {0o400, user, ""},
		"handed to a group by root": {0o640, handed, ""},
		"which may not write":       {0o660, handed, "0660"},
		"which may not execute":     {0o650, handed, "0650"},
		"nor others":                {0o644, handed, "0644"},
		"root's group is a mistake": {0o640, root, "mode 0640: others than its owner"},
		"a user's group as well":    {0o640, user, "0640"},
		"a user's for all":          {0o604, user, "0604"},
		"a folder":                  {fs.ModeDir | 0o600, root, "is no file"},
		"a named pipe":              {fs.ModeNamedPipe | 0o600, root, "is no file"},
	} {
		err := check("/k", c.mode, c.of)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	if err := Write(file, "gr8"); err != nil {
		t.Fatal(err)
	}
	if b, err := Read(file); err != nil || string(b) != "gr8\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := Write(file, "other"); err == nil || !strings.Contains(err.Error(), "never overwritten") {
		t.Errorf("a second time: %v", err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil || strings.Contains(err.Error(), "gr8") {
		t.Errorf("for all to read: %v", err)
	}
	if _, err := Read(file + ".none"); !os.IsNotExist(err) && !strings.Contains(err.Error(), "no such file") {
		t.Errorf("nothing there: %v", err)
	}
	if err := Write(filepath.Join(file, "x"), "k"); err == nil {
		t.Error("a file as a folder")
	}
}

// TestReadSize: nothing of a key is cut off, and what cannot be one is an error.
func TestReadSize(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	for size, want := range map[int]string{0: "", 6500: "", maxSize: "", maxSize + 1: "has more than 16384 bytes", 1 << 20: "has more than 16384 bytes"} {
		if err := os.WriteFile(file, []byte(strings.Repeat("k", size)), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := Read(file)
		switch {
		case want == "" && (err != nil || len(b) != size):
			t.Errorf("of %d bytes %d, %v", size, len(b), err)
		case want != "" && (b != nil || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "kk")):
			t.Errorf("%d bytes: %d, %v", size, len(b), err)
		}
	}
}

// TestWriteForTheGroup needs root, as /etc/transitd does.
func TestWriteForTheGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can hand a file to a group that is not its own")
	}
	const group = 4242
	for name, c := range map[string]struct {
		mode fs.FileMode
		uid  int
		want fs.FileMode
	}{
		"the folder hands its group on": {fs.ModeSetgid | 0o750, 0, 0o640},
		"it does not":                   {0o750, 0, 0o600},
		"it is somebody's":              {fs.ModeSetgid | 0o750, 1000, 0o600},
	} {
		dir := t.TempDir()
		if err := os.Chown(dir, c.uid, group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "key")
		if err := Write(file, "k"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != c.want {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		if _, err := Read(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
