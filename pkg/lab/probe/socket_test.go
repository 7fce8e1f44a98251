package probe

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// timeExceeded is an ICMP "time exceeded" about an echo request with identifier 0x1234 and sequence number 7.
func timeExceeded() []byte {
	msg := []byte{
		11, 0, 0, 0, 0, 0, 0, 0, // type, code, checksum, unused
		0x45, 0, 0, 84, 0, 1, 0x40, 0, 1, 1, 0, 0, // IPv4, TTL 1, ICMP
		10, 50, 1, 10, 172, 16, 1, 10,
	}
	return append(msg, 8, 0, 0, 0, 0x12, 0x34, 0, 7)
}

func TestParseAnswer(t *testing.T) {
	t.Parallel()
	reply := appendEcho(nil, 0x1234, 9, 40)
	reply[0] = icmpEchoReply
	fragNeeded := timeExceeded()
	fragNeeded[0], fragNeeded[1], fragNeeded[6], fragNeeded[7] = icmpUnreachable, codeFragNeeded, 0x05, 0x78
	otherProtocol := timeExceeded()
	otherProtocol[headerLen+9] = 17
	options := timeExceeded()
	options[headerLen] = 0x4f // a header longer than what is there
	tests := []struct {
		name string
		in   []byte
		want answer
		ok   bool
	}{
		{"echo reply", reply, answer{kind: icmpEchoReply, seq: 9, size: 60}, true},
		{"time exceeded", timeExceeded(), answer{kind: icmpTimeExceeded, seq: 7, size: len(timeExceeded()) + 20}, true},
		{"fragmentation needed", fragNeeded, answer{kind: icmpUnreachable, code: codeFragNeeded, seq: 7, size: len(fragNeeded) + 20, mtu: 1400}, true},
		{"somebody else's identifier", appendEcho([]byte{}, 0x9999, 1, 8), answer{}, false},
		{"request", appendEcho(nil, 0x1234, 1, 8), answer{}, false},
		{"about UDP", otherProtocol, answer{}, false},
		{"header beyond the end", options, answer{}, false},
		{"short", timeExceeded()[:20], answer{}, false},
		{"empty", nil, answer{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := parseAnswer(tt.in, 0x1234)
			if ok != tt.ok {
				t.Fatalf("ok %v, want %v", ok, tt.ok)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(answer{})); ok && diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(timeExceeded(), uint16(0x1234))
	f.Add(appendEcho(nil, 1, 2, 64), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, id uint16) {
		if a, ok := parseAnswer(b, id); ok && len(b) < headerLen {
			t.Errorf("%+v from %d bytes", a, len(b))
		}
	})
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	// RFC 1071, section 3: the sum of these octets is ddf2.
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("%04x", got)
	}
	if got := checksum(appendEcho(nil, 0xabcd, 3, 33)); got != 0 {
		t.Errorf("the checksum over a finished message is %04x, not 0", got)
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Millisecond
	tests := []struct {
		name    string
		answers []bool
		want    Outage
	}{
		{"nothing sent", nil, Outage{}},
		{"nothing lost", []bool{true, true}, Outage{Sent: 2, Received: 2}},
		{"one lost", []bool{true, false, true}, Outage{Sent: 3, Received: 2, Longest: interval, Start: time.Unix(0, 0).Add(interval)}},
		{"the longer of two", []bool{false, true, false, false, false, true}, Outage{Sent: 6, Received: 2, Longest: 3 * interval, Start: time.Unix(0, 0).Add(2 * interval)}},
		{"until the end", []bool{true, false, false}, Outage{Sent: 3, Received: 1, Longest: 2 * interval, Start: time.Unix(0, 0).Add(interval)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sentAt := make([]time.Time, len(tt.answers))
			for i := range sentAt {
				sentAt[i] = time.Unix(0, 0).Add(time.Duration(i) * interval)
			}
			if diff := cmp.Diff(tt.want, outage(sentAt, tt.answers, interval)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFlowCountsAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                            string
		seqs                            []int
		received, duplicates, reordered int
	}{
		{"in order", []int{0, 1, 2, 3}, 4, 0, 0},
		{"one lost", []int{0, 2, 3}, 3, 0, 0},
		{"twice", []int{0, 1, 1, 2, 0}, 3, 2, 0},
		{"two swapped", []int{0, 2, 1, 3}, 4, 0, 1},
		{"one much later", []int{1, 2, 3, 0}, 4, 0, 1},
		{"a stranger's", []int{0, 4, 1 << 31}, 1, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &Flow{answers: make([]bool, 4), sentAt: make([]time.Time, 4)}
			for _, seq := range tt.seqs {
				f.answered(seq)
			}
			if got := outage(f.sentAt, f.answers, time.Millisecond).Received; got != tt.received || f.duplicates != tt.duplicates || f.reordered != tt.reordered {
				t.Errorf("%d received, %d duplicates, %d reordered; want %d, %d, %d", got, f.duplicates, f.reordered, tt.received, tt.duplicates, tt.reordered)
			}
		})
	}
}
