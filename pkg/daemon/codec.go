package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.uber.org/zap"

	"github.com/transitd/transitd/tunnel/ike"
	"github.com/transitd/transitd/tunnel/ipsec"
	"github.com/transitd/transitd/tunnel/pump"
	"github.com/transitd/transitd/tunnel/vxlan"
	"github.com/transitd/transitd/tunnel/wireguard"
)

// codec makes what encapsulates a tunnel's packets. engine is the part of it
// that agrees on keys, nil for VXLAN.
func (e *endpoints) codec(p TunnelPlan) (c pump.Codec, en *engine, err error) {
	switch {
	case p.WireGuard != nil:
		return e.wireguard(p)
	case p.IPsec != nil:
		return e.ipsec(p)
	}
	if c, err = vxlan.New(*p.VXLAN); err != nil {
		return nil, nil, fmt.Errorf("make the codec: %w", err)
	}
	return c, nil, nil
}

func (e *endpoints) wireguard(p TunnelPlan) (pump.Codec, *engine, error) {
	en := &engine{log: e.log.With(zap.String("tunnel", p.Name))}
	conf := *p.WireGuard
	if e.keyLogs != "" {
		f, err := en.openKeyLog(filepath.Join(e.keyLogs, p.Name+".wg.keys"))
		if err != nil {
			return nil, nil, err
		}
		conf.KeyLog = f
	}
	var err error
	if en.wireguard, err = wireguard.New(conf); err != nil {
		return nil, nil, errors.Join(err, en.close())
	}
	e.tellKeyLogs(p.Name, en)
	return en.wireguard, en, nil
}

func (e *endpoints) ipsec(p TunnelPlan) (pump.Codec, *engine, error) {
	en := &engine{log: e.log.With(zap.String("tunnel", p.Name))}
	conf := ipsec.Config{IKE: *p.IPsec, Interface: p.Endpoint.Interface, Mark: p.Endpoint.Mark, Log: en.log}
	if e.keyLogs != "" {
		f, err := en.openKeyLog(filepath.Join(e.keyLogs, p.Name+".ike.keys"))
		if err != nil {
			return nil, nil, err
		}
		conf.IKEKeys = f
		if f, err = en.openKeyLog(filepath.Join(e.keyLogs, p.Name+".esp.keys")); err != nil {
			return nil, nil, errors.Join(err, en.close())
		}
		conf.ESPKeys = f
	}
	var err error
	if en.ipsec, err = ipsec.New(conf); err != nil {
		return nil, nil, errors.Join(err, en.close())
	}
	e.tellKeyLogs(p.Name, en)
	return en.ipsec, en, nil
}

// engine is a device that agrees on keys, with what belongs to it in this
// process: WireGuard's or IPsec's.
type engine struct {
	log       *zap.Logger
	wireguard *wireguard.Device
	ipsec     *ipsec.Device
	keyLogs   []*os.File
	cancel    context.CancelFunc
	served    sync.WaitGroup
}

func (e *engine) openKeyLog(path string) (*os.File, error) {
	f, err := openKeyLog(path, os.Geteuid())
	if err != nil {
		return nil, err
	}
	e.keyLogs = append(e.keyLogs, f)
	return f, nil
}

// reconfigure takes what a running device can take.
func (e *engine) reconfigure(p TunnelPlan) error {
	if e.ipsec != nil {
		return e.ipsec.Reconfigure(*p.IPsec)
	}
	return e.wireguard.Reconfigure(*p.WireGuard)
}

func (e *engine) wireguardStatus() *wireguard.Status {
	if e == nil || e.wireguard == nil {
		return nil
	}
	s := e.wireguard.Status()
	return &s
}

func (e *engine) ipsecStatus() *ike.Status {
	if e == nil || e.ipsec == nil {
		return nil
	}
	s := e.ipsec.Status()
	return &s
}

// serve answers wg(8). That it cannot is no reason to have no tunnel.
func (e *engine) serve(p TunnelPlan, t *pump.Tunnel) {
	if e.wireguard == nil {
		return
	}
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
		if err := wireguard.ServeUAPI(ctx, p.Name, e.wireguard, about); err != nil {
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
	if e.ipsec != nil {
		e.ipsec.Close()
	}
	var errs []error
	for _, f := range e.keyLogs {
		if err := f.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the key log: %w", err))
		}
	}
	return errors.Join(errs...)
}
