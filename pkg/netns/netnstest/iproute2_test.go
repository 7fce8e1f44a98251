package netnstest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/transitd/transitd/pkg/netns"
)

// A namespace can be removed though "ip netns add" was first used after it was
// made. The test runs itself in a mount namespace in which there is no folder yet.
func TestNetnsBeforeIPRoute2(t *testing.T) {
	RequireRoot(t)
	const inside = "TRANSITD_NETNS_INSIDE"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", `mount -t tmpfs tmpfs /run && exec "$0" -test.v -test.run "^$1\$"`, os.Args[0], t.Name())
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	ours, err := netns.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"add", "del"} {
		if out, err := exec.Command("ip", "netns", c, "theirs").CombinedOutput(); err != nil {
			t.Errorf("ip netns %s: %v: %s", c, err, out)
		}
	}
	if err := ours.Delete(); err != nil {
		t.Error(err)
	}
	if ours.Exists() {
		t.Error("it is still there")
	}
}
