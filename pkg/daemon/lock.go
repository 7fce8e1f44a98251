package daemon

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// protocolLock makes sure that in one network namespace only one daemon owns
// the routes and rules of a protocol number: a second one would remove the
// first one's as stale. It is an abstract unix socket (unix(7)), which belongs to
// the network namespace as the routes do and vanishes with the process.
type protocolLock struct{ fd int }

// lockProtocol takes the lock, or says that somebody has it.
func lockProtocol(protocol int) (*protocolLock, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("lock route protocol %d: %w", protocol, err)
	}
	// A leading @ stands for the zero byte of an abstract address.
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@transitd/protocol/%d", protocol)})
	if err != nil {
		closed := unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("another transitd in this network namespace owns the routes with protocol %d: give this one another routing.protocol, tables and rule_priority, or stop the other", protocol)
		}
		return nil, errors.Join(fmt.Errorf("lock route protocol %d: %w", protocol, err), closed)
	}
	return &protocolLock{fd}, nil
}

func (l *protocolLock) release() error {
	if err := unix.Close(l.fd); err != nil {
		return fmt.Errorf("release the lock of the route protocol: %w", err)
	}
	return nil
}
