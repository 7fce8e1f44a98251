package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/transitd/transitd/pkg/config"
	"github.com/transitd/transitd/pkg/control"
	"github.com/transitd/transitd/pkg/diag/bugreport"
	"github.com/transitd/transitd/pkg/version"
)

// impatient is how long later questions wait once the daemon did not answer one.
const impatient = time.Second

// defaultListen is observe.listen's default.
const defaultListen = "127.0.0.1:9477"

// maxMetrics bounds what is read from /metrics, in bytes.
const maxMetrics = 16 << 20

// reported is the answer of bugreport.
type reported struct {
	control.Version
	File string `json:"file"`
	// Complete says that nothing failed.
	Complete bool              `json:"complete"`
	Entries  []bugreport.Entry `json:"entries"`
}

func (a *app) bugreportCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "bugreport [FILE|-]", Short: "Pack what somebody else needs to understand this node; without secrets",
		Long: "Writes a tar.gz with the daemon's answers (status, routes, BGP, events), its metrics and log, the kernel's rules, tables,\n" +
			"links and sysctls, versions, and the configuration. FILE must not exist yet; - is standard output; left out, a file in the\n" +
			"current folder is named for node and time. It works without a daemon, too, and says what it could not get.\n\n" +
			"Secrets are left out: the configuration has only the names of their files, and their contents are removed wherever they\n" +
			"stand. Addresses, prefixes and AS numbers are in it: look before you send it.\n\n" +
			"Exit status: 0 written, 1 written but not complete, or not written, 2 wrong usage.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{msg: "bugreport takes one FILE, not " + strings.Join(args, " ")}
			}
			if len(args) == 1 && args[0] == "-" && a.output == "json" {
				return &usageError{msg: "standard output cannot take both the archive and JSON", hint: "give a FILE"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runBugreport(cmd.Context(), file, strings.Join(args, ""))
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the daemon's configuration (default /etc/transitd/NODE.yaml)")
	return cmd
}

func (a *app) runBugreport(ctx context.Context, configFile, name string) error {
	now := time.Now()
	node := a.node(ctx)
	if configFile == "" {
		configFile = filepath.Join("/etc/transitd", node+".yaml")
	}
	text, missing := os.ReadFile(configFile)
	items := []bugreport.Item{{Name: "config.yaml", Get: func(context.Context) ([]byte, error) { return bugreport.Config(text), missing }}}
	scrubber, err := bugreport.NewScrubber(text, os.ReadFile)
	if err != nil {
		return fmt.Errorf("%w; nothing was written", err)
	}
	items = append(items, bugreport.Item{Name: "versions", Get: versions})
	items = append(items, a.answers()...)
	items = append(items, metricsItem(configFile), bugreport.Program("log", "journalctl", "--no-pager", "-o", "short-iso", "-n", "5000", "-u", "transitd@"+node))
	items = append(items, bugreport.Kernel()...)

	folder := fmt.Sprintf("transitd-bugreport-%s-%s", node, now.UTC().Format("20060102T150405Z"))
	if name == "" {
		name = folder + ".tar.gz"
	}
	answer := reported{Version: control.V1(), File: name}
	err = a.into(name, func(w io.Writer) (err error) {
		answer.Entries, err = bugreport.Write(ctx, w, folder, now, items, scrubber)
		return err
	})
	if err != nil {
		return err
	}
	failed := bugreport.Failed(answer.Entries)
	for _, e := range failed {
		fmt.Fprintf(a.stderr, "not complete: %s: %s\n", e.Name, e.Error)
	}
	answer.Complete = len(failed) == 0
	if name != "-" {
		if err := a.show(answer, func() { a.printf("%s", name) }); err != nil {
			return err
		}
	}
	return exitFor(answer.Complete)
}

// node names the node for files: what the daemon says, or the socket's name.
func (a *app) node(ctx context.Context) string {
	client, err := a.client()
	if err != nil {
		return "unknown"
	}
	if s, err := client.Status(ctx); err == nil && fileName(s.Node.Name) {
		return s.Node.Name
	} else if errors.Is(err, control.ErrSilent) && (a.timeout == 0 || a.timeout > impatient) {
		a.timeout = impatient // the rest is asked all the same, but not waited for
	}
	if name := strings.TrimSuffix(filepath.Base(client.Socket()), ".sock"); fileName(name) {
		return name
	}
	return "unknown"
}

// fileName reports whether a name can be a part of a file's name.
func fileName(s string) bool {
	return s != "" && !strings.HasPrefix(s, ".") && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// into writes a new file that only its owner may read, or standard output. A file that could not be finished is removed.
func (a *app) into(name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(a.stdout)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return &usageError{msg: fmt.Sprintf("make the archive: %v", err), hint: "give the name of a new file: transitctl bugreport /tmp/report.tar.gz"}
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// answers are what the commands of the table print as JSON.
func (a *app) answers() (items []bugreport.Item) {
	walk(a.entries(), func(words []string, e entry) {
		for _, args := range e.report {
			name := strings.Join(words, "-")
			if len(e.report) > 1 {
				name += strings.Join(args, "")[1:]
			}
			items = append(items, bugreport.Item{Name: name + ".json", Get: func(ctx context.Context) ([]byte, error) {
				return a.ask(ctx, slices.Concat(words, args))
			}})
		}
	})
	return items
}

// ask runs one of our own commands. A degraded node is no failure here.
func (a *app) ask(ctx context.Context, args []string) ([]byte, error) {
	var out, said strings.Builder
	child := &app{stdout: &out, stderr: &said, env: a.env, socketDir: a.socketDir}
	code := child.run(ctx, append(args, "--output=json", "--socket="+a.socket, "--timeout="+a.timeout.String()))
	text := []byte(out.String())
	var refusal control.Failure
	if code == exitOK || code == exitDegraded && json.Unmarshal(text, &refusal) == nil && refusal.Error.Code == "" {
		return text, nil
	}
	line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	return text, fmt.Errorf("exit status %d: %s", code, strings.TrimPrefix(line, "transitctl: error: "))
}

// versions says what runs here.
func versions(context.Context) ([]byte, error) {
	v := version.Get()
	return fmt.Appendf(nil, "transitctl %s\n%s %s/%s, %d processors\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), nil
}

// metricsItem asks the daemon's web server, where the configuration says it is.
func metricsItem(configFile string) bugreport.Item {
	return bugreport.Item{Name: "metrics", Get: func(ctx context.Context) ([]byte, error) {
		// A file that is not valid tells nothing of the daemon that runs with an older one.
		listen := defaultListen
		if c, err := config.Load(configFile); err == nil {
			listen = c.Observe.Listen.String()
		}
		if listen == "" {
			return nil, errors.New("observe.listen is off")
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/metrics", http.NoBody)
		if err != nil {
			return nil, fmt.Errorf("ask for the metrics: %w", err)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req) // no proxy: it is this machine
		if err != nil {
			return nil, fmt.Errorf("ask for the metrics: %w", err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxMetrics))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("ask for the metrics: %s", resp.Status)
		}
		return data, err
	}}
}
