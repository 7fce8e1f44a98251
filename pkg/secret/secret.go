// Package secret reads files that hold keys, and makes them.
//
// Whose secret it is decides who may read it: a file is for its owner alone
// (mode 0600), except that root may hand one to a group (root:transitd, mode
// 0640), so that a daemon that is not root can read what it cannot replace.
// What a file's content means is not here.
package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxSize is more than any key has, in bytes: an RSA key of 8,192 bits in PEM has 6.5 KB.
const maxSize = 16 << 10

// Read returns a regular file that others may not read or change, and that is
// not larger than a key can be. No error has anything of the content.
func Read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a secret: %w", err)
	}
	if err := check(file, info.Mode(), owner(info)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read a secret: %w", err)
	case len(b) > maxSize:
		return nil, fmt.Errorf("%s has more than %d bytes, so it is no key", file, maxSize)
	}
	return b, nil
}

// ids are a file's owner and group.
type ids struct{ user, group uint32 }

func owner(info fs.FileInfo) ids {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ids{} // root's group gets no right below
	}
	return ids{st.Uid, st.Gid}
}

// Private refuses what is no file, and one that anybody but its owner may read or change.
func Private(file string, mode fs.FileMode) error { return check(file, mode, ids{}) }

// check is the rule.
func check(file string, mode fs.FileMode, of ids) error {
	open := mode.Perm() & 0o077
	handed := of.user == 0 && of.group != 0 // by root, who is the only one that can give a file to any group
	switch {
	case !mode.IsRegular():
		return fmt.Errorf("%s is no file", file)
	case open == 0, open == 0o040 && handed:
		return nil
	}
	return fmt.Errorf("%s has mode %04o: others than its owner may read or change it", file, mode.Perm())
}

// Write makes a file with a secret and a line end. What is there is never
// overwritten. Only its owner may read it, and in a folder of root's that hands
// its group on (the setgid bit, as /etc/transitd has) that group too.
func Write(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; a key is never overwritten", file)
	}
	if err != nil {
		return fmt.Errorf("make the file of a key: %w", err)
	}
	_, err = fmt.Fprintln(f, text)
	if err == nil {
		err = handOn(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write a key: %w", err)
	}
	return nil
}

// handOn lets the group read a new file, where root's folder says so.
func handOn(f *os.File) error {
	dir, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	made, err := f.Stat()
	if err != nil {
		return err
	}
	got, want := owner(made), owner(dir)
	if dir.Mode()&fs.ModeSetgid == 0 || want.user != 0 || want.group == 0 || got != want {
		return nil
	}
	return f.Chmod(0o640)
}
