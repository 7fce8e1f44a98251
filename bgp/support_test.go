package bgp

import (
	"errors"
	"fmt"

	"github.com/transitd/transitd/bgp/policy"
)

var errNotConverged = errors.New("not converged")

// siteTagOf is the tag as BIRD prints it.
func siteTagOf(site string) string {
	return fmt.Sprintf("(%d, 1, %d)", ourASN, policy.SiteNumber(site))
}
