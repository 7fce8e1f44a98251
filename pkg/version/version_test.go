package version

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestFrom(t *testing.T) {
	t.Parallel()
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: modified}}
	}
	cases := []struct {
		name            string
		build           debug.BuildInfo
		version, commit string // from the linker
		want            string
	}{
		{"nothing known", debug.BuildInfo{GoVersion: "go1.26.8"}, "", "", "devel (go1.26.8)"},
		{"go build without git", debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"}}, "", "", "devel (go1.26.8)"},
		{"go install", debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}}, "", "", "v1.2.3 (go1.26.8)"},
		{"git checkout", debug.BuildInfo{GoVersion: "go1.26.8", Settings: vcs("false")}, "", "", "devel (0123456789ab, go1.26.8)"},
		{"changed git checkout", debug.BuildInfo{GoVersion: "go1.26.8", Settings: vcs("true")}, "", "", "devel (0123456789ab-dirty, go1.26.8)"},
		{"linker", debug.BuildInfo{GoVersion: "go1.26.8", Settings: vcs("true")}, "v2.0.0", "fedcba9876543210-dirty", "v2.0.0 (fedcba987654-dirty, go1.26.8)"},
		{"linker, short commit", debug.BuildInfo{GoVersion: "go1.26.8"}, "v2.0.0", "fed", "v2.0.0 (fed, go1.26.8)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := from(&c.build, c.version, c.commit).String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	if i := Get(); i.Go != runtime.Version() || i.Version == "" {
		t.Errorf("got %+v", i)
	}
}
