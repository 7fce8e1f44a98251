package bugreport

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
)

// removed stands where a secret was.
const removed = "(removed)"

// minSecret is the shortest secret that is looked for, in bytes: shorter ones stand in every text.
const minSecret = 4

// maxSecretFile bounds a file of secrets; larger ones are none of ours.
const maxSecretFile = 64 << 10

// Scrubber removes secrets. The zero value knows none, and still removes what
// looks like one in a configuration and in URLs.
type Scrubber struct{ secrets [][]byte }

// secretFile finds keys whose value is the name of a file with a secret, as pkg/config has them:
// private_key_file, preshared_key_file, next_private_key_file, password_file, …; and
// those of two public ones.
var secretFile = regexp.MustCompile(`(?m)["']?\b(\w+_file)["']?\s*:\s*(?:"([^"\n]+)"|'([^'\n]+)'|([^\s,}#"']+))`)

// inlineSecret finds secrets that somebody wrote into a configuration, which is then refused, but may be on disk.
var inlineSecret = regexp.MustCompile(`(?i)(["']?\b\w*(?:password|passphrase|secret|psk|ppk|private_key|preshared_key|token)["']?\s*:\s*)("[^"\n]*"|'[^'\n]*'|[^\s,}#]+|$)`)

// userInfo and query find the parts of URLs that may hold a password or a signature.
var (
	userInfo = regexp.MustCompile(`(://)[^/\s"'@?#]+@`)
	query    = regexp.MustCompile(`(https?://[^\s"'?#]+\?)[^\s"']+`)
)

// NewScrubber reads the files that a configuration names for secrets. A file
// that is not there holds no secret; any other failure is an error, as then the
// secret is not known and could not be removed.
func NewScrubber(config []byte, read func(name string) ([]byte, error)) (*Scrubber, error) {
	public := []string{"cert_file", "ca_file"} // certificates, and a machine's list of authorities may be large
	s := &Scrubber{}
	var errs []error
	for _, m := range secretFile.FindAllSubmatch(config, -1) {
		if slices.Contains(public, string(m[1])) {
			continue
		}
		name := string(slices.Concat(m[2], m[3], m[4]))
		data, err := read(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("read a secret, to leave it out: %w", err))
		case len(data) > maxSecretFile:
			errs = append(errs, fmt.Errorf("read a secret, to leave it out: %s has %d bytes", name, len(data)))
		default:
			s.learn(data)
		}
	}
	// Longer ones first: a part of one may be another.
	slices.SortFunc(s.secrets, func(a, b []byte) int {
		if d := len(b) - len(a); d != 0 {
			return d
		}
		return bytes.Compare(a, b)
	})
	s.secrets = slices.CompactFunc(s.secrets, bytes.Equal)
	return s, errors.Join(errs...)
}

// learn takes each line of a file for a secret, in every form in which it could be written.
func (s *Scrubber) learn(data []byte) {
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		s.add(line)
		key, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(key) < minSecret {
			continue
		}
		s.add(key)
		s.add([]byte(hex.EncodeToString(key)))
		s.add(bytes.ToUpper([]byte(hex.EncodeToString(key))))
		s.add([]byte(base64.RawStdEncoding.EncodeToString(key)))
		s.add([]byte(base64.URLEncoding.EncodeToString(key)))
		s.add([]byte(base64.RawURLEncoding.EncodeToString(key)))
	}
}

func (s *Scrubber) add(secret []byte) {
	if len(secret) >= minSecret {
		s.secrets = append(s.secrets, bytes.Clone(secret))
	}
}

// Scrub returns a text without the secrets.
func (s *Scrubber) Scrub(text []byte) []byte {
	for _, secret := range s.secrets {
		text = bytes.ReplaceAll(text, secret, []byte(removed))
	}
	text = userInfo.ReplaceAll(text, []byte("${1}"+removed+"@"))
	return query.ReplaceAll(text, []byte("${1}"+removed))
}

// Config returns a configuration without secrets that somebody wrote into it;
// the names of files stay. Scrub is for it, too.
func Config(text []byte) []byte {
	lines := bytes.Split(text, []byte("\n"))
	below := -1 // the indentation of a secret's key whose value goes on in deeper lines; -1 if there is none
	for i, l := range lines {
		depth := len(l) - len(bytes.TrimLeft(l, " -"))
		if below >= 0 && (depth > below || len(bytes.TrimSpace(l)) == 0) {
			lines[i] = nil
			continue
		}
		below = -1
		if m := inlineSecret.FindSubmatch(l); m != nil {
			lines[i] = inlineSecret.ReplaceAll(l, []byte("${1}"+removed))
			if v := m[2]; len(v) == 0 || v[0] == '|' || v[0] == '>' {
				below = depth
			}
		}
	}
	return bytes.Join(lines, []byte("\n"))
}
