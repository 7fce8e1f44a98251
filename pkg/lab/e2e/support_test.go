package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// secretIPsec is the name of the twins' second tunnel.
const secretIPsec = "ipsec0"

// secretTwins are two transitds with every kind of secret: WireGuard's keys, IPsec's
// preshared key, and MD5 in the BGP session. forms are all ways to write them.
func secretTwins(t *testing.T) (w [2]*wgTwin, forms map[string][]byte) {
	t.Helper()
	w = newWGTwins(t)
	psk, md5 := filepath.Join(w[0].dir, "psk"), filepath.Join(w[0].dir, "md5")
	w[0].exec(t, filepath.Join(binDir, "transitctl")+" keygen --preshared "+psk)
	const password, ipsecSecret = "twin-session-password", "twin-ipsec-preshared-key"
	writeFile(t, md5, password+"\n")
	ipsec := filepath.Join(w[0].dir, "ipsec.psk")
	writeFile(t, ipsec, ipsecSecret+"\n")
	forms = map[string][]byte{"the password": []byte(password), "IPsec's preshared key": []byte(ipsecSecret)}
	for name, file := range map[string]string{"our private key": w[0].key, "their private key": w[1].key, "the preshared key": psk} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || len(raw) != 32 {
			t.Fatalf("%s: %d bytes, %v", file, len(raw), err)
		}
		forms[name] = raw
		forms[name+" in base64"] = []byte(base64.RawStdEncoding.EncodeToString(raw))
		forms[name+" in base64 for URLs"] = []byte(base64.RawURLEncoding.EncodeToString(raw))
		forms[name+" in hexadecimal"] = []byte(hex.EncodeToString(raw))
		forms[name+" in capitals"] = bytes.ToUpper([]byte(hex.EncodeToString(raw)))
	}
	for i, n := range w {
		file := filepath.Join(n.dir, "transitd.yaml")
		second := fmt.Sprintf(`  - name: %s
    remote: %s
    address: 169.254.78.%d/30
    peer_address: 169.254.78.%d
    encapsulation: ipsec
    ipsec: {psk_file: %s}
    bgp: {asn: %d}
observe: {listen: 127.0.0.1:9477}`, secretIPsec, w[1-i].outer, i+1, 2-i, ipsec, 64513-i)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		conf := strings.NewReplacer("paths: 4", "paths: 4, preshared_key_file: "+psk, "bgp: {", "bgp: {password_file: "+md5+", ", `observe: {listen: ""}`, second).Replace(string(text))
		writeFile(t, file, conf)
		n.daemon.kill()
	}
	for _, n := range w {
		n.daemon.start()
	}
	soon(t, "BGP with MD5, over WireGuard and IPsec with preshared keys", 20*time.Second, func() error {
		_, err := output(w[0].transitctl(t, "bgp", "summary"))
		return err
	})
	return w, forms
}

// What a running node tells others: no secret in a bug report, and JSON as the published schemas say.
func TestSupport(t *testing.T) {
	w, secrets := secretTwins(t)
	for _, p := range []struct {
		name string
		f    func(*testing.T, *wgTwin, map[string][]byte)
	}{{"no secrets", reportWithoutSecrets}, {"schemas", schemasFit}} {
		t.Run(p.name, func(t *testing.T) { p.f(t, w[0], secrets) })
	}
}

// reportWithoutSecrets greps every byte of a bug report, packed and unpacked.
func reportWithoutSecrets(t *testing.T, n *wgTwin, secrets map[string][]byte) {
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	out, err := output(n.transitctl(t, "bugreport", "-c", filepath.Join(n.dir, "transitd.yaml"), file))
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) { // no journal here
		t.Fatalf("%v\n%s", err, out)
	}
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"the archive": packed}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = data
	}
	for name, data := range files {
		for what, secret := range secrets {
			if bytes.Contains(data, secret) {
				t.Errorf("%s has %s", name, what)
			}
		}
		if bytes.Contains(data, []byte("(removed)")) { // nothing should have had to be removed
			t.Errorf("something was removed from %s:\n%s", name, data)
		}
	}
	// What should be there, so that the search above looked at something.
	for name, want := range map[string]string{
		"config.yaml": "private_key_file: " + n.key, "status.json": n.theirs, "metrics": "transitd_health{", "kernel/rules": "fwmark",
		"kernel/routes": "proto ", "kernel/links": n.device, "kernel/sysctls": "net/ipv4/ip_forward = ", "watch.json": `"kind":"bgp"`, "routes.json": `"table": "underlay"`,
	} {
		if !bytes.Contains(files[name], []byte(want)) {
			t.Errorf("%s has no %q:\n%.2000s", name, want, files[name])
		}
	}
}

// schemasFit runs every command that has a schema and holds what it prints against it.
func schemasFit(t *testing.T, n *wgTwin, _ map[string][]byte) {
	config := filepath.Join(n.dir, "transitd.yaml")
	arguments := map[string][]string{
		"audit":           {"-c", config, "../../diag/audit/testdata/hub/nic.json"},
		"bugreport":       {"-c", config, filepath.Join(t.TempDir(), "report.tar.gz")},
		"drain":           {"--wait=0s"},
		"explain":         {"192.0.2.2"},
		"ipsec-rekey":     {secretIPsec},
		"ipsec-terminate": {secretIPsec},
		"keygen":          {filepath.Join(t.TempDir(), "key")},
		"ping":            {secretIPsec, "-c", "3", "-i", "20ms"},
		"pmtu":            {secretIPsec},
		"reload":          {"--dry-run"},
		"trace":           {"192.0.2.2"},
		"watch":           {"--last=100", "--follow=false"},
	}
	files, err := filepath.Glob("../../../docs/json/*.schema.json")
	if err != nil || len(files) < 13 {
		t.Fatalf("%d schemas, %v", len(files), err)
	}
	slices.Sort(files)
	for _, file := range files {
		schema, err := jsonschema.NewCompiler().Compile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".schema.json")
		args := slices.Concat(strings.Split(name, "-"), arguments[name], []string{"-o", "json"})
		out, err := output(n.transitctl(t, args...))
		if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1) {
			t.Errorf("%s: %v; does it need arguments in this test?", name, err)
			continue
		}
		answers := []string{out}
		if name == "watch" {
			answers = strings.Split(strings.TrimSpace(out), "\n")
		}
		for _, a := range answers {
			if err := fits(schema, a); err != nil {
				t.Errorf("%s: %v\n%s", name, err, a)
			}
		}
	}
}

func fits(schema *jsonschema.Schema, text string) error {
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("it is no JSON: %w", err)
	}
	return schema.Validate(instance)
}
