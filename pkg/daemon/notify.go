package daemon

import (
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// notifier tells the service manager where the daemon stands (sd_notify(3)).
// Without one it does nothing.
type notifier struct {
	log  *zap.Logger
	last string
}

func (n *notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("cannot tell the service manager", zap.String("state", state), zap.Error(err))
	}
}

func (n *notifier) ready() { n.send(daemon.SdNotifyReady) }

// reloading has to be followed by ready, also when the reload was refused.
func (n *notifier) reloading() {
	n.send(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

func (n *notifier) stopping() { n.send(daemon.SdNotifyStopping) }

// status shows one line in "systemctl status"; the same line again is not sent.
func (n *notifier) status(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if line == n.last {
		return
	}
	n.last = line
	n.send("STATUS=" + line)
}
