package streamtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// judge compares and asks tshark.
func (w *way) judge(t testing.TB) {
	t.Helper()
	name := w.from.NS.Name + " to " + w.to.NS.Name
	t.Logf("%s: %d packets in %d units, %d on the wire; %d super packets sent whole, %d received joined", name, w.count, len(w.units), len(w.wire), w.supers[0], w.supers[1])
	if err := Compare(Packets(w.units), w.got, w.c.MTU); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if w.from.Ours && w.supers[0] == 0 || w.to.Ours && w.supers[1] == 0 {
		t.Errorf("%s: no super packets, so it proves little", name)
	}
	if err := w.inside(t); err != nil {
		t.Errorf("%s, inside: %v", name, err)
	}
	if err := w.outside(t); err != nil {
		t.Errorf("%s, outside: %v", name, err)
	}
}

// Values of Wireshark's fields *.checksum.status.
const (
	checksumBad  = "0"
	checksumGood = "1"
)

// inside asks about the packets that arrived: exactly those have a wrong
// checksum that were sent with one.
func (w *way) inside(t testing.TB) error {
	t.Helper()
	bad := map[string]bool{}
	for _, u := range w.units {
		if u.Bad {
			bad[string(plain(u.Data))] = true
		}
	}
	rows, err := tshark(t, layers.LinkTypeEthernet, framed(w.got),
		"frame.len", "ip.len", "ipv6.plen", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status")
	if err != nil {
		return err
	}
	seen, good := 0, 0
	for i, row := range rows {
		if l := number(row["frame.len"]) - 14; l != number(row["ip.len"]) && l != number(row["ipv6.plen"])+40 {
			return fmt.Errorf("packet %d of %d bytes: %v", i, l, row)
		}
		wrong := false
		for field, v := range row {
			if strings.HasSuffix(field, ".status") {
				wrong = wrong || v == checksumBad
				if v == checksumGood && field != "ip.checksum.status" {
					good++
				}
			}
		}
		if wrong != bad[string(plain(w.got[i]))] {
			return fmt.Errorf("packet %d: tshark finds a wrong checksum: %v, it was sent so: %v: %v", i, wrong, !wrong, row)
		}
		if wrong {
			seen++
		}
	}
	if good < len(rows)/10 {
		return fmt.Errorf("tshark verified only %d checksums of %d packets: it proves little", good, len(rows))
	}
	t.Logf("tshark: %d packets inside, %d transport checksums right, %d wrong as they were sent", len(rows), good, seen)
	return nil
}

// framed puts an Ethernet header in front of IP packets. Without one tshark takes
// some for something else: a TOS of 255 and a length of 768 to 1,023 look like PPP.
func framed(packets [][]byte) [][]byte {
	out := make([][]byte, len(packets))
	for i, p := range packets {
		header := make([]byte, 14, 14+len(p))
		header[12] = 0x08
		if p[0]>>4 == 6 {
			header[12], header[13] = 0x86, 0xdd
		}
		out[i] = append(header, p...)
	}
	return out
}

// outside asks about what was on the wire: one whole datagram for each packet.
func (w *way) outside(t testing.TB) error {
	t.Helper()
	rows, err := tshark(t, layers.LinkTypeEthernet, w.wire,
		"frame.len", "ip.len", "ipv6.plen", "ip.flags.df", "ip.flags.mf", "ip.frag_offset", "ipv6.fraghdr.offset", "ip.checksum.status", "ip.proto", "ipv6.nxt", "udp.length", "udp.srcport", "udp.checksum.status", "icmp.type")
	if err != nil {
		return err
	}
	datagrams := 0
	for i, row := range rows {
		switch v6 := row["ipv6.plen"] != ""; {
		case row["icmp.type"] != "":
			return fmt.Errorf("frame %d is an ICMP message: %v", i, row)
		case row["ip.flags.mf"] == "1" || number(row["ip.frag_offset"]) > 0 || row["ipv6.fraghdr.offset"] != "":
			return fmt.Errorf("frame %d is a fragment: %v", i, row)
		case w.c.Protocol != 0 && row["udp.length"] != "":
			return fmt.Errorf("frame %d is UDP: %v", i, row)
		case !w.c.outer(row):
			continue // ARP, neighbor discovery
		case w.c.Protocol == 0 && row["udp.checksum.status"] != checksumGood || !v6 && row["ip.checksum.status"] != checksumGood:
			return fmt.Errorf("frame %d has a wrong checksum: %v", i, row)
		case w.c.Protocol == 0 && number(row["udp.length"]) != max(number(row["ipv6.plen"]), number(row["ip.len"])-20),
			v6 && number(row["frame.len"]) != number(row["ipv6.plen"])+54,
			!v6 && number(row["frame.len"]) != max(number(row["ip.len"])+14, 60) && number(row["frame.len"]) != number(row["ip.len"])+14:
			return fmt.Errorf("frame %d has lengths that do not fit each other: %v", i, row)
		case number(row["frame.len"])-14 > w.c.MTU+w.c.Overhead:
			return fmt.Errorf("frame %d is longer than %d bytes: %v", i, w.c.MTU+w.c.Overhead, row)
		case w.from.Ours && (!v6 && row["ip.flags.df"] != "1" || !w.c.ours(number(row["udp.srcport"]))):
			return fmt.Errorf("frame %d is without DF, or from a port that is not ours: %v", i, row)
		}
		datagrams++
	}
	if datagrams < w.count {
		return fmt.Errorf("%d datagrams carried %d packets", datagrams, w.count)
	}
	return nil
}

func number(s string) int {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return -1
	}
	return int(n)
}

// tshark dissects packets and returns fields of each, those of the outermost header. It does not look into tunnels.
func tshark(t testing.TB, link layers.LinkType, packets [][]byte, fields ...string) ([]map[string]string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "packets.pcap")
	if err := writePcap(file, link, packets); err != nil {
		return nil, err
	}
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "occurrence=f", "-E", "separator=|", "--disable-protocol", "vxlan", "--disable-protocol", "vxlan_gpe", "--disable-protocol", "wg"}
	for _, pref := range []string{"ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE", "ip.defragment:FALSE", "ipv6.defragment:FALSE"} {
		args = append(args, "-o", pref)
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("tshark: %w: %s", err, complaint.String())
	}
	var rows []map[string]string
	for line := range strings.Lines(string(out)) {
		row := map[string]string{}
		for i, v := range strings.Split(strings.TrimSuffix(line, "\n"), "|") {
			if v != "" && i < len(fields) {
				row[fields[i]] = v
			}
		}
		rows = append(rows, row)
	}
	if len(rows) != len(packets) {
		return nil, fmt.Errorf("tshark read %d packets of %d: %s", len(rows), len(packets), complaint.String())
	}
	return rows, nil
}

func writePcap(file string, link layers.LinkType, packets [][]byte) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(1<<18, link); err != nil {
		return err
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			return err
		}
	}
	return f.Sync()
}

// outer reports whether a frame is the tunnel's.
func (c *Config) outer(row map[string]string) bool {
	if c.Protocol == 0 {
		return row["udp.length"] != ""
	}
	return number(row["ip.proto"]) == int(c.Protocol) || number(row["ipv6.nxt"]) == int(c.Protocol)
}

// ours reports whether a source port is one that a tunnel of ours may have.
func (c *Config) ours(port int) bool {
	if c.Protocol != 0 {
		return true // there are no ports
	}
	if c.OnePort != 0 {
		return port == c.OnePort
	}
	return port >= 49152 && port != 65330
}
