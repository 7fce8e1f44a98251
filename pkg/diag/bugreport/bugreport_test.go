package bugreport

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// unpack reads an archive back.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 || !strings.HasPrefix(h.Name, "report/") {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		files[strings.TrimPrefix(h.Name, "report/")] = string(data)
	}
}

func text(name, s string, err error) Item {
	return Item{Name: name, Get: func(context.Context) ([]byte, error) { return []byte(s), err }}
}

// TestWrite: what fails is written down, what there is of it is kept, and the rest goes on.
func TestWrite(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	at := time.Date(2026, 11, 23, 17, 7, 0, 0, time.UTC)
	items := []Item{
		text("a", "hello", nil),
		text("b", "", errors.New("nobody\nanswers http://u:pw@x/")),
		text("c/d", "half", errors.New("cut off")),
		text("e", strings.Repeat("x", maxItem+1), nil),
	}
	entries, err := Write(t.Context(), &b, "report", at, items, &Scrubber{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{"a", 5, ""},
		{"b", 0, "nobody\nanswers http://(removed)@x/"},
		{"c/d", 4, "cut off"},
		{"e", maxItem, fmt.Sprintf("it has %d bytes; only the first %d are here", maxItem+1, maxItem)},
	}
	if d := cmp.Diff(want, entries); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := len(Failed(entries)); n != 3 {
		t.Errorf("%d failed, want 3", n)
	}
	files := unpack(t, b.Bytes())
	if _, there := files["b"]; there || files["a"] != "hello" || files["c/d"] != "half" || len(files["e"]) != maxItem {
		t.Errorf("the archive has %d files", len(files))
	}
	if got := files["CONTENTS"]; !strings.Contains(got, "2026-11-23T17:07:00Z") || !strings.Contains(got, "\nb           0 bytes  nobody answers") {
		t.Errorf("CONTENTS:\n%s", got)
	}
}

// TestWriteInterrupted: an interrupt ends it, and says so.
func TestWriteInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	wait := Item{Name: "slow", Get: func(ctx context.Context) ([]byte, error) { cancel(); <-ctx.Done(); return nil, ctx.Err() }}
	if _, err := Write(ctx, io.Discard, "report", time.Time{}, []Item{wait}, &Scrubber{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestProgram: what a program prints, also if it fails, and the first line of its complaint.
func TestProgram(t *testing.T) {
	t.Parallel()
	out, err := Program("x", "sh", "-c", "echo some; printf 'broken\\nm%se\\n' or >&2; exit 3").Get(t.Context())
	if string(out) != "some\n" || err == nil || !strings.Contains(err.Error(), "exit status 3: broken") || strings.Contains(err.Error(), "more") {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := Program("x", "no-such-program").Get(t.Context()); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("%v", err)
	}
}

// TestSysctls: the real kernel's, without its secrets.
func TestSysctls(t *testing.T) {
	t.Parallel()
	out, err := sysctls(t.Context())
	if err != nil || !strings.Contains(string(out), "net/ipv4/conf/lo/rp_filter = ") || strings.Contains(string(out), "secret") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// disk is a file system for secrets.
type disk map[string]string

func (d disk) read(name string) ([]byte, error) {
	s, ok := d[name]
	switch {
	case !ok:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case s == "locked":
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return []byte(s), nil
}

// TestScrub: contents of the files that a configuration names are found in every form, names stay.
func TestScrub(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdefghijklmnopqrstu\xff")
	std := base64.StdEncoding.EncodeToString(key)
	d := disk{"/k/a.key": std + "\n", "/k/b psk": "short pass phrase\nsecond line\n", "/k/c": "one word", "md5": "hunter22"}
	const conf = "tunnels:\n  - wireguard: {private_key_file: /k/a.key, preshared_key_file: \"/k/b psk\"}\n    bgp:\n      password_file: md5 # or none\n  - {'next_private_key_file': '/k/c', other_file: /k/none}\n"
	s, err := NewScrubber([]byte(conf), d.read)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{
		std, string(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), strings.TrimRight(std, "="),
		base64.URLEncoding.EncodeToString(key), "short pass phrase", "second line", "one word", "hunter22",
	} {
		if got := string(s.Scrub([]byte("<" + form + ">" + form))); got != "<(removed)>(removed)" {
			t.Errorf("%q became %q", form, got)
		}
	}
	if got := string(s.Scrub([]byte(conf))); got != conf {
		t.Errorf("names were removed:\n%s", got)
	}
}

// TestScrubUnknown: a secret that cannot be read could not be found either.
func TestScrubUnknown(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]disk{"locked": {"k": "locked"}, "too large": {"k": strings.Repeat("x", maxSecretFile+1)}} {
		if _, err := NewScrubber([]byte("psk_file: k\n"), d.read); err == nil || !strings.Contains(err.Error(), "read a secret, to leave it out") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewScrubber([]byte("psk_file: k\n"), disk{}.read); err != nil {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestScrubCertificates: they are public, and a bundle of authorities may be larger than any secret.
func TestScrubCertificates(t *testing.T) {
	t.Parallel()
	bundle := strings.Repeat("-----BEGIN CERTIFICATE-----\n", 10_000)
	d := disk{"ca": bundle, "c": bundle, "k": "the private key"}
	const conf = "{cert_file: c, 'key_file': k, \"ca_file\": ca}\n"
	s, err := NewScrubber([]byte(conf), d.read)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"of the private key": "of (removed)", "-----BEGIN CERTIFICATE-----": "-----BEGIN CERTIFICATE-----"} {
		if got := string(s.Scrub([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if _, err := NewScrubber([]byte("{key_file: ca, ca_file: ca}"), d.read); err == nil {
		t.Error("authorities are also a key")
	}
}

// TestConfig: secrets that do not belong into a configuration do not leave it either.
func TestConfig(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"password: hunter2":                              "password: (removed)",
		"  - {psk: abc, peer_public_key: def}":           "  - {psk: (removed), peer_public_key: def}",
		`bgp: {"password": "a b", asn: 1}`:               `bgp: {"password": (removed), asn: 1}`,
		"ipsec: {ppk: abc, ppk_id: q, ppk_file: /etc/p}": "ipsec: {ppk: (removed), ppk_id: q, ppk_file: /etc/p}",
		"private_key: 'x'  # mine":                       "private_key: (removed)  # mine",
		"private_key_file: /etc/k":                       "private_key_file: /etc/k",
		"secret: |\n  line one\n\n  line two\nnext: 1":   "secret: (removed)\n\n\n\nnext: 1",
		"a:\n  - psk:\n      nested\n    other: 1\nb: 2": "a:\n  - psk: (removed)\n\n    other: 1\nb: 2",
		"MD5_Password: x":                                "MD5_Password: (removed)",
	} {
		got := strings.ReplaceAll(string(Config([]byte(in))), "psk:(removed)", "psk: (removed)")
		if got != want {
			t.Errorf("%q\nbecame %q\nwant   %q", in, got, want)
		}
	}
}

// TestScrubURLs: passwords and signatures in URLs, of a probe for example.
func TestScrubURLs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`http: "https://user:pw@host/x"`:            `http: "https://(removed)@host/x"`,
		"https://a.blob/x?sv=1&sig=abc def":         "https://a.blob/x?(removed) def",
		"http://host/path and mail to me@example":   "http://host/path and mail to me@example",
		path.Join("a", "b") + " proto bgp metric 1": "a/b proto bgp metric 1",
	} {
		if got := string((&Scrubber{}).Scrub([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// FuzzScrub: no secret survives, whatever stands around it, and a configuration never makes it panic.
func FuzzScrub(f *testing.F) {
	f.Add([]byte("password_file: md5\n"), []byte("tcp md5 %s, again %s"))
	f.Add([]byte("secret: >-\n  - a\n"), []byte("%s"))
	f.Fuzz(func(t *testing.T, conf, around []byte) {
		const secret = "correct horse battery"
		conf = append([]byte("password_file: md5\n"), conf...)
		s, err := NewScrubber(conf, func(name string) ([]byte, error) {
			if name == "md5" {
				return []byte(secret), nil
			}
			return nil, fs.ErrNotExist
		})
		if err != nil {
			t.Fatal(err)
		}
		text := bytes.ReplaceAll(append(Config(conf), around...), []byte("%s"), []byte(secret))
		if got := s.Scrub(text); bytes.Contains(got, []byte(secret)) {
			t.Errorf("%q", got)
		}
	})
}
