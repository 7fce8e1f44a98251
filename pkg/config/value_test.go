package config

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDSCPText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]DSCP{"copy": DSCPCopy, "0": 0, "46": 46, "63": 63} {
		var d DSCP
		if err := d.UnmarshalText([]byte(text)); err != nil || d != want || d.String() != text {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "64", "-1", "Copy", "0x10"} {
		var d DSCP
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted as %v", text, d)
		}
	}
}

func TestMACText(t *testing.T) {
	t.Parallel()
	var m MAC
	if err := m.UnmarshalText([]byte("02:00:0A:00:02:04")); err != nil || m != (MAC{2, 0, 10, 0, 2, 4}) || m.String() != "02:00:0a:00:02:04" {
		t.Errorf("got %v, %v", m, err)
	}
	if (MAC{}).String() != "" {
		t.Error("the zero value has a text")
	}
	for _, text := range []string{"", "02-00-0a-00-02-04", "2:0:a:0:2:4", "02:00:0a:00:02", "02:00:0a:00:02:04:05", "zz:00:0a:00:02:04"} {
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestListenText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "127.0.0.1:9477", "[::1]:9477", "0.0.0.0:1"} {
		var l Listen
		if err := l.UnmarshalText([]byte(text)); err != nil || l.String() != text || l.IsValid() != (text != "") {
			t.Errorf("%q: %v, %v", text, l, err)
		}
	}
	for _, text := range []string{"localhost:9477", ":9477", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "[fe80::1%eth0]:1", "[::ffff:127.0.0.1]:1"} {
		l := Listen{netip.MustParseAddrPort("192.0.2.1:1")}
		if err := l.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted as %v", text, l)
		}
	}
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	var d Duration
	if err := d.UnmarshalText([]byte("3m")); err != nil || d.Std() != 3*time.Minute {
		t.Errorf("got %v, %v", d, err)
	}
	text, err := json.Marshal(d)
	if err != nil || string(text) != `"3m0s"` {
		t.Errorf("rendered as %s, %v", text, err)
	}
}

func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.yaml")
	cfg, err := Load(path)
	if cfg != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, %v", cfg, err)
	}
	if want := path + ": cannot be read: no such file or directory"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte("\xef\xbb\xbfnode: {}\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil || !strings.HasPrefix(err.Error(), path+":1:1: ") {
		t.Errorf("got %v", err)
	}
}

func TestCheckUnderlay(t *testing.T) {
	t.Parallel()
	cfg, err := Load("../../docs/examples/hub-nva.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		addrs []string
		want  []string // paths
	}{
		{"own subnet", []string{"10.0.2.4/24", "2001:db8::4/64"}, nil},
		{"overlay", []string{"169.254.0.4/16"}, []string{"tunnels[0].address"}},
		{"remote", []string{"10.1.2.4/24"}, []string{"tunnels[0].remote"}},
		{"route server", []string{"10.0.1.9/27"}, []string{"route_servers[0].subnet"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var addrs []netip.Prefix
			for _, a := range c.addrs {
				addrs = append(addrs, netip.MustParsePrefix(a))
			}
			var got []string
			for _, e := range AsErrors(cfg.CheckUnderlay(addrs...)) {
				got = append(got, e.Path)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	cases := []struct {
		err  Error
		want string
	}{
		{Error{File: "a.yaml", Line: 3, Column: 7, Path: "node.asn", Msg: "missing", Hint: "give one"}, "a.yaml:3:7: node.asn: missing\n  hint: give one"},
		{Error{File: "a.yaml", Line: 1, Column: 1, Msg: "the file is empty"}, "a.yaml:1:1: the file is empty"},
		{Error{Path: "tunnels[0].remote", Msg: "bad"}, "tunnels[0].remote: bad"},
	}
	for _, c := range cases {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"defualt", "default", 1}, {"vni", "vni", 0}, {"kitten", "sitting", 3}, {"abcd", "badc", 2}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := editDistance(c.b, c.a); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.b, c.a, got, c.want)
		}
	}
}
