package daemon

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/transitd/transitd/pkg/secret"
)

// openKeyLog opens a file that gets a tunnel's secrets, for tshark. One that is
// there already has to be ours alone: what somebody else made, or has open, would
// hand the secrets on.
func openKeyLog(path string, ours int) (*os.File, error) {
	// A FIFO without O_NONBLOCK would hold up the start until somebody reads it.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("open the key log: %s is a symbolic link: delete it, or name another folder", path)
	case err != nil:
		return nil, fmt.Errorf("open the key log: %w", err)
	}
	if err := checkKeyLog(f, ours); err != nil {
		return nil, errors.Join(fmt.Errorf("open the key log: %w", err), f.Close())
	}
	return f, nil
}

func checkKeyLog(f *os.File, ours int) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if st, known := info.Sys().(*syscall.Stat_t); !known || int(st.Uid) != ours {
		return fmt.Errorf("%s is not ours (user %d): delete it, and it is made anew with mode 0600", f.Name(), ours)
	}
	if err := secret.Private(f.Name(), info.Mode()); err != nil { // chmod would be too late for who has it open
		return fmt.Errorf("%w; delete it, and it is made anew with mode 0600", err)
	}
	return nil
}

// keyLogText is loud, because who has forgotten the flag would not notice.
func keyLogText(tunnel string) string {
	return fmt.Sprintf("tunnel %s: its secrets are being written to a file (--keylog): whoever has it can read the traffic", tunnel)
}

// tellKeyLogs says in the log, and as an event, that a tunnel's secrets are written down.
func (e *endpoints) tellKeyLogs(tunnel string, en *engine) {
	if len(en.keyLogs) == 0 {
		return
	}
	var files []string
	for _, f := range en.keyLogs {
		files = append(files, f.Name())
	}
	e.log.Warn(keyLogText(tunnel), zap.Strings("files", files))
	if e.keysLogged != nil {
		e.keysLogged(tunnel)
	}
}
