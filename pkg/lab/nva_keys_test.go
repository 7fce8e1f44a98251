package lab

import (
	"fmt"
	"os"
	"testing"

	"github.com/transitd/transitd/pkg/netns/netnstest"
)

// A node's key is there when its configuration is: the daemon reads it before the
// other end's configuration is made.
func TestKeysAreThereAtTheStart(t *testing.T) {
	netnstest.RequireRoot(t)
	t.Parallel()
	for kind, file := range map[Encapsulation]string{WireGuard: "hub-nva.key", IPsec: "7700.psk"} {
		s := state{fmt.Sprintf("keys%d%s", os.Getpid(), kind)}
		if err := os.MkdirAll(s.dir(), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = os.RemoveAll(s.dir())
			_ = os.Remove(root) // stays if a lab is up
		})
		if _, err := nvaConfig(s, Options{Scenario: AVSTransit, Encapsulation: kind}, "hub-nva"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.file(file)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
