package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"
)

// samples are packets that a filter can tell apart, without link headers.
func samples(t testing.TB) [][]byte {
	t.Helper()
	ip4 := func(proto byte, src, dst byte, fragment uint16, options int, rest ...byte) []byte {
		b := []byte{byte(0x45 + options), 0, 0, 0, 0, 0, byte(fragment >> 8), byte(fragment), 64, proto, 0, 0, 10, 1, 2, src, 172, 16, 9, dst}
		b = append(append(b, bytes.Repeat([]byte{1}, 4*options)...), rest...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		return b
	}
	ip6 := func(proto byte, src, dst byte, rest ...byte) []byte {
		b := append([]byte{0x60, 0, 0, 0, 0, byte(len(rest)), proto, 64}, make([]byte, 32)...)
		b[8], b[9], b[23], b[24], b[25], b[39] = 0x20, 1, src, 0x20, 2, dst
		return append(b, rest...)
	}
	ports := func(src, dst uint16, more int) []byte {
		b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, src), dst)
		return append(b, make([]byte, 16+more)...)
	}
	return [][]byte{
		ip4(6, 1, 1, 0, 0, ports(179, 40000, 0)...), ip4(6, 1, 2, 0x4000, 0, ports(40000, 179, 100)...), ip4(6, 2, 1, 0, 3, ports(80, 179, 0)...),
		ip4(17, 1, 1, 0, 0, ports(53, 5353, 0)...), ip4(17, 2, 2, 0, 0, ports(4789, 4789, 500)...), ip4(17, 2, 2, 185, 0, ports(4789, 4789, 0)...),
		ip4(17, 2, 2, 0x2000, 0, ports(4789, 53, 0)...), ip4(1, 1, 1, 0, 0, make([]byte, 20)...), ip4(50, 1, 1, 0, 0, make([]byte, 40)...), ip4(47, 1, 3, 0, 0, make([]byte, 40)...),
		ip6(6, 1, 2, ports(179, 40000, 0)...), ip6(17, 2, 1, ports(53, 4789, 40)...), ip6(58, 1, 1, make([]byte, 20)...), ip6(50, 1, 1, make([]byte, 30)...),
	}
}

// framed puts Ethernet headers in front, and adds an ARP frame.
func framed(t testing.TB) (frames [][]byte) {
	t.Helper()
	for _, p := range samples(t) {
		typ := []byte{8, 0}
		if p[0]>>4 == 6 {
			typ = []byte{0x86, 0xdd}
		}
		frames = append(frames, append(append(bytes.Repeat([]byte{2}, 12), typ...), p...))
	}
	return append(frames, append(append(bytes.Repeat([]byte{2}, 12), 8, 6), make([]byte, 46)...))
}

// filters are what tcpdump understands as we do.
func filters() []string {
	return []string{
		"ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "not arp", "esp", "ip proto 50", "ip6 proto 58", "proto 47", "ip proto 17",
		"port 179", "src port 179", "dst port 179", "tcp port 179", "udp port 53", "udp dst port 53", "portrange 50-180", "tcp src portrange 80-179",
		"host 10.1.2.1", "src host 10.1.2.2", "dst 172.16.9.2", "ip host 10.1.2.1", "src 10.1.2.1", "host 2001::1", "src host 2001::2", "dst host 2002::2", "ip6 host 2002::1",
		"net 10.0.0.0/8", "src net 172.16.0.0/12", "dst net 172.16.8.0/21", "net 10.1.2.2/31", "net 2001::/16", "dst net 2002::/96",
		"less 60", "greater 100", "tcp and port 179", "tcp or udp", "not tcp", "! udp port 4789", "host 10.1.2.1 and (tcp or icmp) and not dst 172.16.9.2",
		"tcp or udp and port 179", "udp and port 53 or icmp", "not (ip or arp) && udp || tcp dst port 179", "((((ip))))", "not not ip", "not icmp and not icmp6 and less 1000",
	}
}

// TestFilterAgreesWithTcpdump checks that the words mean what tcpdump means by them.
func TestFilterAgreesWithTcpdump(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Fatal("tcpdump is needed: .ci/install-peers tcpdump")
	}
	for _, link := range []struct {
		link    Link
		typ     layers.LinkType
		packets [][]byte
	}{{Ethernet, layers.LinkTypeEthernet, framed(t)}, {IP, layers.LinkTypeRaw, samples(t)}} {
		file := filepath.Join(t.TempDir(), "packets.pcap")
		write(t, file, link.typ, link.packets)
		for _, text := range filters() {
			if link.link == IP && strings.Contains(text, "arp") {
				continue // tcpdump refuses ARP where there is none
			}
			want := tcpdump(t, file, text)
			got := matches(t, link.link, text, link.packets)
			if got != want {
				t.Errorf("link %d, %q: packets %s, tcpdump says %s", link.link, text, got, want)
			}
		}
	}
}

func write(t *testing.T, file string, typ layers.LinkType, packets [][]byte) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, typ); err != nil {
		t.Fatal(err)
	}
	for i, p := range packets { // the time is the packet's number
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(p), Length: len(p)}, p); err != nil {
			t.Fatal(err)
		}
	}
}

// tcpdump lists the numbers of the packets that match.
func tcpdump(t *testing.T, file, filter string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tcpdump", "-r", file, "-n", "-q", "-tt", filter)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tcpdump %q: %v %s", filter, err, &stderr)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if number, _, ok := strings.Cut(line, "."); ok && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
			list = append(list, number)
		}
	}
	return strings.Join(list, " ")
}

func matches(t *testing.T, link Link, filter string, packets [][]byte) string {
	t.Helper()
	vm := machine(t, link, filter)
	var list []string
	for i, p := range packets {
		n, err := vm.Run(p)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			list = append(list, fmt.Sprint(i))
		}
	}
	return strings.Join(list, " ")
}

func machine(t testing.TB, link Link, filter string) *bpf.VM {
	t.Helper()
	n, err := parse(filter)
	if err != nil {
		t.Fatalf("%q: %v", filter, err)
	}
	ins, err := assemble(link, n)
	if err != nil {
		t.Fatalf("%q: %v", filter, err)
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatalf("%q: %v", filter, err)
	}
	return vm
}

func TestFilterRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"por 7":                              `word 1 is "por"`,
		"10.0.0.1":                           `where one of ip`,
		"port":                               "ends after",
		"port 70000":                         "0 to 65535",
		"port http":                          "a number",
		"tcp host 10.0.0.1":                  `word 2 is "host"`,
		"host 10.0.0":                        "an address",
		"host fe80::1%eth0":                  "an address",
		"net 10.0.0.1/8":                     "10.0.0.0/8 is meant",
		"net 10":                             "a prefix",
		"portrange 9-3":                      "a range",
		"(ip":                                "ends after",
		"ip )":                               `word 2 is ")"`,
		"ip and":                             "ends after",
		"not":                                "ends after",
		"proto 256":                          "0 to 255",
		strings.Repeat("not ", 40) + "ip":    "inside each other",
		strings.Repeat("ip or ", 200) + "ip": "words",
	} {
		if _, err := Compile(Ethernet, "", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestCompile(t *testing.T) {
	t.Parallel()
	if p, err := Compile(IP, "", "  "); p != nil || err != nil {
		t.Errorf("no filter: %v, %v", p, err)
	}
	// The base holds whatever the filter says: "or" binds inside it.
	base, err := Compile(Ethernet, "udp", "ip or ip6")
	if err != nil {
		t.Fatal(err)
	}
	ins, ok := bpf.Disassemble(base)
	if !ok {
		t.Fatal("it cannot be read")
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range framed(t) {
		n, err := vm.Run(p)
		if isUDP := len(p) > 40 && (p[12] == 8 && p[23] == 17 || p[12] == 0x86 && p[20] == 17); err != nil || n > 0 != isUDP {
			t.Errorf("packet %d: %d, %v", i, n, err)
		}
	}
	longest := strings.Repeat("port 1 or ", 60) + "port 1"
	if p, err := Compile(Ethernet, "host 2001:db8::1 and host 2001:db8::2", longest); err != nil || len(p) > maxProgram {
		t.Errorf("%d instructions, %v", len(p), err)
	}
}

// What a person types ends in a program that the kernel can run, or in an error.
func FuzzCompile(f *testing.F) {
	for _, text := range filters() {
		f.Add(text, []byte{0x45})
	}
	f.Add("port 1 and (", []byte{})
	f.Fuzz(func(t *testing.T, text string, data []byte) {
		for _, link := range []Link{Ethernet, IP} {
			p, err := Compile(link, "", text)
			if err != nil || p == nil {
				continue
			}
			ins, ok := bpf.Disassemble(p)
			if !ok || len(ins) > maxProgram {
				t.Fatalf("%q: %d instructions", text, len(ins))
			}
			vm, err := bpf.NewVM(ins)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if _, err := vm.Run(data); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
		}
	})
}
