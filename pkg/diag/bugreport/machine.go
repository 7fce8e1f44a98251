package bugreport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Program is an item: what a program prints. LANG=C keeps it in one language.
func Program(name string, argv ...string) Item {
	return Item{Name: name, Get: func(ctx context.Context) ([]byte, error) {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			said, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
			return out.Bytes(), fmt.Errorf("run %s: %w: %.200s", strings.Join(argv, " "), err, said)
		}
		return out.Bytes(), nil
	}}
}

// Kernel are the facts of the kernel that transitd's work rests on: rules,
// tables, links, neighbours, sysctls, counters. They are of the network
// namespace that the program runs in. What prints keys (ip xfrm, wg) is not there.
func Kernel() []Item {
	return []Item{
		Program("kernel/rules", "ip", "-d", "rule", "show"),
		Program("kernel/rules6", "ip", "-6", "-d", "rule", "show"),
		Program("kernel/routes", "ip", "-d", "route", "show", "table", "all"),
		Program("kernel/routes6", "ip", "-6", "-d", "route", "show", "table", "all"),
		Program("kernel/links", "ip", "-d", "-s", "link", "show"),
		Program("kernel/addresses", "ip", "address", "show"),
		Program("kernel/neighbours", "ip", "neighbour", "show"),
		{Name: "kernel/sysctls", Get: sysctls},
		Files("kernel/version", "/proc/version", "/etc/os-release"),
		Files("kernel/counters", "/proc/net/snmp", "/proc/net/netstat", "/proc/net/softnet_stat", "/proc/net/dev"),
	}
}

// Files is an item: files one after the other, each under its name.
func Files(name string, files ...string) Item {
	return Item{Name: name, Get: func(context.Context) ([]byte, error) {
		var b bytes.Buffer
		var errs []error
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			fmt.Fprintf(&b, "==> %s\n%s", f, data)
		}
		return b.Bytes(), errors.Join(errs...)
	}}
}

// sysctlPatterns are what transitd sets, or what decides about forwarded
// packets and about the size of bursts. Not all of net: net/ipv6/conf/*/stable_secret is a secret.
func sysctlPatterns() []string {
	return []string{
		"net/ipv4/ip_forward", "net/ipv4/fib_multipath_hash_policy", "net/ipv4/ip_no_pmtu_disc", "net/ipv4/tcp_mtu_probing", "net/ipv4/nexthop_compat_mode",
		"net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/accept_redirects", "net/ipv4/conf/*/send_redirects",
		"net/ipv4/conf/*/accept_local", "net/ipv4/conf/*/src_valid_mark", "net/ipv4/conf/*/arp_*",
		"net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/accept_ra", "net/ipv6/conf/*/disable_ipv6", "net/ipv6/conf/*/accept_redirects",
		"net/core/rmem_max", "net/core/wmem_max", "net/core/netdev_max_backlog", "net/core/default_qdisc",
	}
}

// sysctls prints each as sysctl(8) does.
func sysctls(context.Context) ([]byte, error) {
	var names []string
	for _, p := range sysctlPatterns() {
		found, err := filepath.Glob(filepath.Join("/proc/sys", p))
		if err != nil {
			return nil, fmt.Errorf("look for the sysctl %s: %w", p, err)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, n := range names {
		value, err := os.ReadFile(n)
		if err != nil {
			continue // an interface that went meanwhile
		}
		fmt.Fprintf(&b, "%s = %s\n", strings.TrimPrefix(n, "/proc/sys/"), strings.TrimSpace(string(value)))
	}
	if b.Len() == 0 {
		return nil, errors.New("read the sysctls: there are none in /proc/sys/net")
	}
	return b.Bytes(), nil
}
