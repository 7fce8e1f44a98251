package esp

import (
	"fmt"
	"net/netip"

	"github.com/transitd/transitd/tunnel/sa"
)

// KeyLogLines are the lines of tshark's esp_sa table for a pair: with them a
// capture can be read. They give the keys away: they are for a file that an
// operator has asked for. tshark knows no ChaCha20-Poly1305 in ESP; then there are none.
func KeyLogLines(p sa.Pair, local, remote netip.Addr) []string {
	if p.Cipher != sa.AES128GCM16 && p.Cipher != sa.AES256GCM16 {
		return nil
	}
	family := "IPv4"
	if local.Is6() {
		family = "IPv6"
	}
	line := func(src, dst netip.Addr, d sa.Direction) string {
		s := fmt.Sprintf(`"%s","%s","%s","0x%08x","AES-GCM with 16 octet ICV [RFC4106]","0x%x","NULL",""`, family, src, dst, d.SPI, d.Key)
		if p.ESN {
			s += `,"64-bit","0x00000000"` // tshark 4.4 and later
		}
		return s
	}
	return []string{line(remote, local, p.In), line(local, remote, p.Out)}
}
