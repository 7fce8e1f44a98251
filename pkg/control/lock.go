package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// socketMode lets the daemon's user and group connect, nobody else.
const socketMode = 0o660

// InUseError says that another daemon that is alive owns the socket.
type InUseError struct {
	Socket string
	PID    int // 0 if it is not known
}

// Error names the socket and its owner.
func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("another transitd already runs with the control socket %s", e.Socket)
	}
	return fmt.Sprintf("another transitd (pid %d) already runs with the control socket %s", e.PID, e.Socket)
}

// Lock is the right to a socket: an flock(2) on the file SOCKET.lock, which the
// kernel drops with the process, however it ends. The file also keeps what the
// owner has to undo on the machine, for a successor after a crash.
type Lock struct {
	socket  string
	file    *os.File
	madeDir bool
	left    map[string]string
}

// lockFile is the content of the lock's file.
type lockFile struct {
	PID  int               `json:"pid"`
	Undo map[string]string `json:"undo,omitempty"`
}

// Acquire takes the lock for a socket, making its folder if it is not there.
// The error is an *InUseError if another process has it.
func Acquire(socket string) (*Lock, error) {
	l := &Lock{socket: socket}
	dir := filepath.Dir(socket)
	if err := os.Mkdir(dir, 0o755); err == nil {
		l.madeDir = true
	} else if !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the folder of the control socket %s: %w", socket, err)
	}
	for {
		f, err := os.OpenFile(l.path(), os.O_RDWR|os.O_CREATE, 0o640)
		if err != nil {
			return nil, fmt.Errorf("open the lock of the control socket %s: %w", socket, err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			defer f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &InUseError{Socket: socket, PID: readLock(f).PID}
			}
			return nil, fmt.Errorf("lock %s: %w", l.path(), err)
		}
		// The owner before may have removed the file between our open and our lock: then it is nobody's.
		if sameFile(f, l.path()) {
			l.file = f
			break
		}
		f.Close()
	}
	l.left = readLock(l.file).Undo
	return l, l.Remember(l.left)
}

// Left is what the owner before remembered and did not undo: it crashed.
func (l *Lock) Left() map[string]string { return l.left }

// Remember writes down what is to be undone on the machine, replacing what was remembered before.
func (l *Lock) Remember(undo map[string]string) error {
	b, err := json.Marshal(lockFile{PID: os.Getpid(), Undo: undo})
	if err != nil {
		return fmt.Errorf("encode %s: %w", l.path(), err)
	}
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("write %s: %w", l.path(), err)
	}
	if _, err := l.file.WriteAt(append(b, '\n'), 0); err != nil {
		return fmt.Errorf("write %s: %w", l.path(), err)
	}
	return nil
}

// Listen opens the socket with mode 0660, in place of one that a dead process left.
func (l *Lock) Listen() (net.Listener, error) {
	if fi, err := os.Lstat(l.socket); err == nil {
		if fi.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("the control socket's path %s is taken by something that is no socket (%s)", l.socket, fi.Mode())
		}
		if err := os.Remove(l.socket); err != nil {
			return nil, fmt.Errorf("remove the socket that a dead process left: %w", err)
		}
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the control socket: %w", err)
	}
	if err := os.Chmod(l.socket, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("set the mode of the control socket: %w", err), ln.Close())
	}
	return ln, nil
}

// Release removes the lock's file, and the folder if Acquire made it and it is
// empty. The socket itself goes when its listener is closed.
func (l *Lock) Release() error {
	err := os.Remove(l.path()) // while it is locked: a successor that waits for it sees that it is gone
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	if l.madeDir {
		_ = os.Remove(filepath.Dir(l.socket)) // fails if another node's socket is in it, as it should
	}
	if err != nil {
		return fmt.Errorf("release the control socket %s: %w", l.socket, err)
	}
	return nil
}

func (l *Lock) path() string { return l.socket + ".lock" }

// readLock reads a lock's file; what cannot be read is as good as empty.
func readLock(f *os.File) (content lockFile) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxBody))
	if err != nil || json.Unmarshal(b, &content) != nil {
		return lockFile{}
	}
	return content
}

func sameFile(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
