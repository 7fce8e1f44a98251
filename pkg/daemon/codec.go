package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"

	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/vxlan"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// codec makes what encapsulates a tunnel's packets. engine is WireGuard's part
// of it that has a state, nil otherwise.
func (e *endpoints) codec(p TunnelPlan) (c pump.Codec, en *engine, err error) {
	if p.WireGuard == nil {
		if c, err = vxlan.New(*p.VXLAN); err != nil {
			return nil, nil, fmt.Errorf("make the codec: %w", err)
		}
		return c, nil, nil
	}
	en = &engine{log: e.log.With(zap.String("tunnel", p.Name))}
	conf := *p.WireGuard
	if e.keyLogs != "" {
		if en.keyLog, err = openKeyLog(filepath.Join(e.keyLogs, p.Name+".wg.keys")); err != nil {
			return nil, nil, err
		}
		conf.KeyLog = en.keyLog
	}
	if en.device, err = wireguard.New(conf); err != nil {
		return nil, nil, errors.Join(err, en.close())
	}
	return en.device, en, nil
}

// openKeyLog opens the file that gets a tunnel's secrets, for tshark.
func openKeyLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the key log: %w", err)
	}
	return f, nil
}

// engine is a WireGuard device with what belongs to it in this process.
type engine struct {
	log    *zap.Logger
	device *wireguard.Device
	keyLog *os.File // nil: none
	cancel context.CancelFunc
	served sync.WaitGroup
}

// serve answers wg(8). That it cannot is no reason to have no tunnel.
func (e *engine) serve(p TunnelPlan, t *pump.Tunnel) {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	about := func() wireguard.Interface {
		s := t.Stats()
		return wireguard.Interface{
			ListenPort: p.Endpoint.Local.Port(), Mark: p.Endpoint.Mark, Remote: p.Pump.Remote,
			TXBytes: s.TXBytes, RXBytes: s.RXBytes, Keepalive: p.WireGuard.PersistentKeepalive,
		}
	}
	e.served.Go(func() {
		if err := wireguard.ServeUAPI(ctx, p.Name, e.device, about); err != nil {
			e.log.Info("wg(8) cannot be answered", zap.Error(err))
		}
	})
}

func (e *engine) close() error {
	if e == nil {
		return nil
	}
	if e.cancel != nil {
		e.cancel()
		e.served.Wait()
	}
	if e.keyLog == nil {
		return nil
	}
	if err := e.keyLog.Close(); err != nil {
		return fmt.Errorf("close the key log: %w", err)
	}
	return nil
}
