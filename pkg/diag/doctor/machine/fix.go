package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/transitd/transitd/pkg/diag/doctor"
)

// Apply makes the changes, and says in a sentence each what was done. What fails stops nothing else. Root is
// put in front of the paths below /etc; empty for the machine's own.
func Apply(root string, fixes []doctor.Fix) (did []string, err error) {
	var errs []error
	lasting, networkd := 0, false
	for _, f := range fixes {
		if f.Key == "" {
			networkd = true
			continue
		}
		if !f.Volatile {
			lasting++
		}
		path := filepath.Join(procSys, f.Key)
		before, _ := os.ReadFile(path) // the write says what is wrong
		if err := os.WriteFile(path, []byte(f.Value), 0); err != nil {
			errs = append(errs, fmt.Errorf("set %s to %s: %w", f.Key, f.Value, err))
			continue
		}
		did = append(did, fmt.Sprintf("set %s to %s (it was %s)", f.Key, f.Value, shown(before)))
	}
	if lasting > 0 {
		path := filepath.Join(root, doctor.SysctlFile)
		have, err := os.ReadFile(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = replace(path, doctor.SysctlText(string(have), fixes))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("keep the settings for the next boot: %w", err))
		} else {
			did = append(did, "wrote "+doctor.SysctlFile+": the same at the next boot")
		}
	}
	if networkd {
		if err := replace(filepath.Join(root, doctor.NetworkdFile), doctor.NetworkdText()); err != nil {
			errs = append(errs, fmt.Errorf("tell systemd-networkd to leave routes alone: %w", err))
		} else {
			did = append(did, "wrote "+doctor.NetworkdFile+": it holds from systemd-networkd's next restart on, which was left to you")
		}
	}
	return did, errors.Join(errs...)
}

// shown is a setting's value for a sentence.
func shown(b []byte) string {
	if len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	if len(b) == 0 {
		return "empty"
	}
	return string(b)
}

// replace writes a file as a whole, so that nobody reads half of it.
func replace(path, text string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder %s: %w", dir, err)
	}
	f, err := os.CreateTemp(dir, ".transitd-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
