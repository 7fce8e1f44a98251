package lab

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
)

// templates are the configuration files of the NVAs. docs/examples has the same files for operators; a test holds
// them together.
//
//go:embed templates/*.yaml
var templates embed.FS

// nvaConfig renders a node's configuration file.
func nvaConfig(s state, o Options, node string) ([]byte, error) {
	if o.NVAs > 1 {
		b, err := haConfig(s, o, node)
		return append(b, o.NVAConfig...), err
	}
	file := node + ".yaml"
	if o.Scenario == DefaultRoute {
		file = node + "-default-route.yaml"
	}
	t, err := template.ParseFS(templates, "templates/"+file)
	if err != nil {
		return nil, fmt.Errorf("read the template of %s: %w", node, err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, struct {
		Socket        string
		Cap           int
		Encapsulation encapsulation
	}{s.socket(node), o.Cap, encapsulation{s, o.Encapsulation, node}}); err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", node, err)
	}
	return append(b.Bytes(), o.NVAConfig...), nil
}
