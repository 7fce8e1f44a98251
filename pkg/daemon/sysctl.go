package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// procSys is where the kernel's settings are.
const procSys = "/proc/sys"

// Sysctl is a kernel setting that forwarding needs.
type Sysctl struct {
	// Key is the path below /proc/sys: "net/ipv4/ip_forward".
	Key   string
	Value string
}

// wantedSysctls lists what has to be set for the underlay interface and the tunnels.
//
// Reverse path filtering is set to "loose" (2) on the card, because what comes
// from the other side by the tunnel leaves by the card, and an asymmetric fabric
// is normal. The kernel takes the larger of conf/all and the interface, so 2 is
// also what overrules a strict conf/all. Tunnel devices get the same when they
// are made; they take the setting away with them.
func wantedSysctls(iface string, tunnels []string, ipv6 bool) []Sysctl {
	list := []Sysctl{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/" + iface + "/rp_filter", "2"},
		// A packet that leaves by the card it came from is normal here, and nobody may be told to go around us.
		{"net/ipv4/conf/" + iface + "/send_redirects", "0"},
		{"net/ipv4/conf/all/send_redirects", "0"},
		// Equal tunnels share traffic by flow, not by pair of addresses.
		{"net/ipv4/fib_multipath_hash_policy", "1"},
	}
	if ipv6 {
		list = append(list,
			// A forwarding host ignores router advertisements, by which Azure's IPv6 default comes, unless told otherwise.
			Sysctl{"net/ipv6/conf/" + iface + "/accept_ra", "2"},
			Sysctl{"net/ipv6/conf/all/forwarding", "1"},
		)
	}
	for _, t := range tunnels {
		list = append(list, Sysctl{"net/ipv4/conf/" + t + "/rp_filter", "2"}, Sysctl{"net/ipv4/conf/" + t + "/send_redirects", "0"})
	}
	return list
}

// sysctls sets kernel settings and remembers what they were. It is not safe for
// concurrent use.
type sysctls struct {
	root string
	// undo has the value from before our first change, by key.
	undo map[string]string
}

// newSysctls makes a store below root; undo is what a crashed predecessor left to be undone.
func newSysctls(root string, undo map[string]string) *sysctls {
	s := &sysctls{root: root, undo: map[string]string{}}
	for k, v := range undo {
		if filepath.IsLocal(k) { // the file could have been written by somebody else
			s.undo[k] = v
		}
	}
	return s
}

// apply sets what differs. Settings of an interface that is not there are left out.
func (s *sysctls) apply(want []Sysctl) error {
	var errs []error
	for _, w := range want {
		have, err := s.read(w.Key)
		if errors.Is(err, os.ErrNotExist) || have == w.Value {
			continue
		}
		if err == nil {
			err = s.write(w.Key, w.Value)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("set sysctl %s to %s: %w", w.Key, w.Value, err))
			continue
		}
		if _, known := s.undo[w.Key]; !known {
			s.undo[w.Key] = have
		}
	}
	return errors.Join(errs...)
}

// drifted lists the settings, as "net.ipv4.ip_forward=0", that somebody has changed since.
func (s *sysctls) drifted(want []Sysctl) (list []string) {
	for _, w := range want {
		if have, err := s.read(w.Key); err == nil && have != w.Value {
			list = append(list, strings.ReplaceAll(w.Key, "/", ".")+"="+have)
		}
	}
	return list
}

// remembered returns a copy of what restore will write.
func (s *sysctls) remembered() map[string]string {
	m := make(map[string]string, len(s.undo))
	for k, v := range s.undo {
		m[k] = v
	}
	return m
}

// restore gives every setting its old value, except where somebody else has
// changed it meanwhile, or the interface is gone.
func (s *sysctls) restore(want []Sysctl) error {
	ours := map[string]string{}
	for _, w := range want {
		ours[w.Key] = w.Value
	}
	var errs []error
	for key, old := range s.undo {
		have, err := s.read(key)
		if errors.Is(err, os.ErrNotExist) || have == old {
			continue
		}
		if v, known := ours[key]; err == nil && known && have != v {
			continue // not ours any more
		}
		if err == nil {
			err = s.write(key, old)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("restore sysctl %s to %s: %w", key, old, err))
		}
	}
	s.undo = map[string]string{}
	return errors.Join(errs...)
}

func (s *sysctls) read(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.root, key))
	return strings.TrimSpace(string(b)), err
}

func (s *sysctls) write(key, value string) error {
	return os.WriteFile(filepath.Join(s.root, key), []byte(value), 0)
}
