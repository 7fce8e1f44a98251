package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxSize limits a configuration file, in bytes: the parser's time grows with the
// square of the size. A node with every key and 1,000 originated prefixes has
// about 60 kB.
const maxSize = 256 << 10

// maxDepth limits how deep brackets and dashes may nest: the parser calls itself
// for each level and would exhaust the stack, which no recover can catch. The
// deepest place of the format has four levels.
const maxDepth = 32

// Load reads and checks the configuration file. The error is of type Errors.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		// The system's text without the path, which Error prints itself.
		cause := err
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			cause = pe.Err
		}
		return nil, Errors{{File: path, Msg: fmt.Sprintf("cannot be read: %v", cause), Err: err}}
	}
	return Parse(path, data)
}

// Parse reads and checks a configuration; file is the name for the messages.
// The error is of type Errors and has everything that is wrong. Parse never
// returns a Config together with an error.
func Parse(file string, data []byte) (*Config, error) {
	d := &decoder{file: file, pos: map[string]position{}}
	body := d.syntax(data)
	if body == nil {
		return nil, d.errs.sorted()
	}
	cfg := &Config{}
	d.value(body, reflect.ValueOf(cfg).Elem(), "", rules{})
	derive(cfg)
	if _, ok := body.(ast.MapNode); ok {
		v := &validator{decoder: d, cfg: cfg}
		v.validate()
	}
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	cfg.forget()
	return cfg, nil
}

// Locate says of mistakes that were found later where in the file they are: at
// the value, or at the nearest key above it. A file that cannot be read any more
// leaves them as they are.
func (e Errors) Locate(file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		return
	}
	d := &decoder{file: file, pos: map[string]position{}}
	if body := d.syntax(data); body != nil {
		d.value(body, reflect.ValueOf(&Config{}).Elem(), "", rules{})
	}
	for _, x := range e {
		if x.Line == 0 && x.Path != "" {
			p := d.near(x.Path)
			x.Line, x.Column = p.line, p.column
		}
	}
}

// near is where a path stands, or the nearest above it that is in the file.
func (d *decoder) near(path string) position {
	for {
		if p, ok := d.pos[path]; ok {
			return p
		}
		if path == "" {
			return position{1, 1}
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// forget removes the defaults of encapsulations that a tunnel does not have.
func (c *Config) forget() {
	for i := range c.Tunnels {
		t := &c.Tunnels[i]
		if t.Encapsulation != EncapsulationVXLAN {
			t.VXLAN = VXLAN{}
		}
		if t.Encapsulation != EncapsulationWireGuard {
			t.WireGuard = WireGuard{}
		}
		if t.Encapsulation != EncapsulationIPsec {
			t.IPsec = IPsec{}
		}
	}
}

// derive fills the defaults that depend on other keys.
func derive(c *Config) {
	if c.Control.Socket == "" && c.Node.Name != "" {
		c.Control.Socket = "/run/transitd/" + c.Node.Name + ".sock"
	}
	for i := range c.Tunnels {
		vx := &c.Tunnels[i].VXLAN
		switch {
		case vx.Port != 0:
		case vx.GPE:
			vx.Port = 4790 // IANA: vxlan-gpe
		default:
			vx.Port = 4789 // IANA: vxlan, RFC 7348, section 8
		}
		if wg := &c.Tunnels[i].WireGuard; wg.PeerPort == 0 {
			wg.PeerPort = wg.ListenPort
		}
	}
}

// syntax parses the text to the one document's body, or notes why that is not possible.
func (d *decoder) syntax(data []byte) ast.Node {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(data) > maxSize {
		d.fail(position{1, 1}, "", "", "the file has %d bytes, at most %d are allowed", len(data), maxSize)
		return nil
	}
	if p, ok := tooDeep(data); ok {
		d.fail(p, "", "", "brackets or dashes nest deeper than %d levels", maxDepth)
		return nil
	}
	f, err := parseYAML(data)
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range f.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.fail(position{1, 1}, "", "docs/reference.yaml shows every key", "the file is empty")
		return nil
	case 1:
		return bodies[0]
	default:
		d.fail(at(bodies[1]), "", "remove the --- line", "the file has %d documents, want one", len(bodies))
		return nil
	}
}

// parseYAML calls the parser. A panic in it (it has had some, on input that no
// person writes) becomes an error: a broken file must not stop a running daemon.
func parseYAML(data []byte) (f *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, fmt.Errorf("the YAML parser gave up: %v", p)
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

// syntaxError notes an error of the YAML parser.
func (d *decoder) syntaxError(err error) {
	p, msg := position{1, 1}, err.Error()
	if ye, ok := errors.AsType[yaml.Error](err); ok {
		msg = ye.GetMessage()
		if tk := ye.GetToken(); tk != nil && tk.Position != nil {
			p = position{max(1, tk.Position.Line), max(1, tk.Position.Column)}
		}
	}
	d.fail(p, "", "", "not valid YAML: %s", msg)
}

// tooDeep returns where brackets, or dashes at the begin of a line, nest deeper
// than maxDepth. It does not know strings or comments, so brackets in those
// count too; no valid file comes near the limit.
func tooDeep(data []byte) (position, bool) {
	brackets, dashes, lead, p := 0, 0, true, position{1, 1}
	for _, c := range string(data) {
		switch c {
		case '[', '{':
			brackets++
		case ']', '}':
			brackets = max(0, brackets-1)
		case '-':
			if lead {
				dashes++
			}
		case '\n', '\r':
			dashes = 0
		}
		lead = c == '\n' || c == '\r' || lead && strings.ContainsRune(" \t-?", c)
		if brackets > maxDepth || dashes > maxDepth {
			return p, true
		}
		p.column++
		if c == '\n' {
			p = position{p.line + 1, 1}
		}
	}
	return position{}, false
}
