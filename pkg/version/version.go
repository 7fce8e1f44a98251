// Package version says which build of transitd is running.
//
// A release build sets the version and the commit with the linker (see the
// Makefile); any other build takes what the Go toolchain recorded: the module's
// version for "go install …@version", the revision for a build inside a git
// checkout. Where neither is there, the version is "devel".
package version

import (
	"runtime/debug"
	"strings"
)

// Set by the linker: -X github.com/transitd/transitd/pkg/version.linkedVersion=v1.2.3
// They are variables only because the linker can set nothing else.
var (
	linkedVersion string
	linkedCommit  string
)

// Info describes one build.
type Info struct {
	// Version is the tag, or what "git describe" made of it, or "devel".
	Version string `json:"version"`
	// Commit is the full git revision, with "-dirty" if the tree had changes; empty if unknown.
	Commit string `json:"commit,omitempty"`
	// Go is the toolchain: "go1.26.8".
	Go string `json:"go"`
}

// Get returns the running program's build.
func Get() Info {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		bi = &debug.BuildInfo{GoVersion: "unknown"}
	}
	return from(bi, linkedVersion, linkedCommit)
}

// String is one line: "v1.2.3 (0123456789ab, go1.26.8)".
func (i Info) String() string {
	parts := []string{}
	if i.Commit != "" {
		hash, dirty := strings.CutSuffix(i.Commit, "-dirty")
		short := hash[:min(len(hash), 12)]
		if dirty {
			short += "-dirty"
		}
		parts = append(parts, short)
	}
	parts = append(parts, i.Go)
	return i.Version + " (" + strings.Join(parts, ", ") + ")"
}

// from puts the sources together; what the linker set wins.
func from(bi *debug.BuildInfo, version, commit string) Info {
	info := Info{Version: version, Commit: commit, Go: bi.GoVersion}
	if info.Version == "" {
		info.Version = strings.Trim(bi.Main.Version, "()") // "(devel)" in a plain go build
	}
	if info.Version == "" {
		info.Version = "devel"
	}
	if info.Commit != "" {
		return info
	}
	var dirty bool
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Commit = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if info.Commit != "" && dirty {
		info.Commit += "-dirty"
	}
	return info
}
