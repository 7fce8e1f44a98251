package speaker

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// wire turns "ff*16 0013 04" into bytes: hexadecimal with spaces, "ff*16" is the marker.
func wire(t testing.TB, s string) []byte {
	t.Helper()
	s = strings.ReplaceAll(s, "ff*16", strings.Repeat("ff", 16))
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatalf("wire bytes: %v", err)
	}
	return b
}

type wireCase struct {
	name string
	wire string
	want Message
}

func wireCases() []wireCase {
	return []wireCase{
		{"keepalive", "ff*16 0013 04", &Keepalive{}},
		{"route refresh", "ff*16 0017 05 0001 00 01", &RouteRefresh{AFI: 1, SAFI: 1}},
		{
			"notification, maximum number of prefixes",
			"ff*16 001c 03 06 01 0001 01 00000fa0",
			&Notification{Code: 6, Subcode: 1, Data: []byte{0, 1, 1, 0, 0, 0x0f, 0xa0}},
		},
		{
			"open of a Route Server",
			`ff*16 0033 01 04 ffeb 00b4 0a000104 16
			 02 14  01 04 00010001  01 04 00020001  02 00  41 04 0000ffeb`,
			&Open{AS: 65515, HoldTime: 180, RouterID: addr("10.0.1.4"), Capabilities: []Capability{
				{Code: 1, Value: []byte{0, 1, 0, 1}},
				{Code: 1, Value: []byte{0, 2, 0, 1}},
				{Code: 2},
				{Code: 65, Value: []byte{0, 0, 0xff, 0xeb}},
			}},
		},
		{"open without parameters", "ff*16 001d 01 04 fbf0 0000 c0000201 00", &Open{AS: 64496, RouterID: addr("192.0.2.1")}},
		{"update, end of RIB", "ff*16 0017 02 0000 0000", &Update{}},
		{
			"update, withdrawal of prefixes of each size of octets",
			"ff*16 0027 02 0010  00  08 0a  11 ac1080  18 c00002  20 c0000201 0000",
			&Update{Withdrawn: prefixes("0.0.0.0/0", "10.0.0.0/8", "172.16.128.0/17", "192.0.2.0/24", "192.0.2.1/32")},
		},
		{
			"update, AVS prefix as an NVA hears it",
			`ff*16 003e 02 0000 0023
			 40 01 01 02
			 40 02 0e 02 03 0000ffeb 00002f2c 00061540
			 40 03 04 0a000104
			 c0 08 04 ffffff02
			 16 0a3200`,
			&Update{
				Attributes: []RawAttribute{
					{Flags: 0x40, Type: 1, Value: []byte{2}},
					{Flags: 0x40, Type: 2, Value: []byte{2, 3, 0, 0, 0xff, 0xeb, 0, 0, 0x2f, 0x2c, 0, 6, 0x15, 0x40}},
					{Flags: 0x40, Type: 3, Value: []byte{10, 0, 1, 4}},
					{Flags: 0xc0, Type: 8, Value: []byte{0xff, 0xff, 0xff, 0x02}},
				},
				NLRI: prefixes("10.50.0.0/22"),
			},
		},
	}
}

func TestMessagesOnTheWire(t *testing.T) {
	t.Parallel()
	for _, tt := range wireCases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := wire(t, tt.wire)
			got, err := ParseMessage(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(tt.want, got); d != "" {
				t.Errorf("parse (-want +got):\n%s", d)
			}
			back, err := AppendMessage([]byte("kept"), tt.want)
			if err != nil {
				t.Fatal(err)
			}
			if want := append([]byte("kept"), b...); !bytes.Equal(want, back) {
				t.Errorf("append:\n got %x\nwant %x", back, want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		wire      string
		code, sub uint8
		data      string
	}{
		{name: "short header", wire: "ff*16 0013", code: 1, sub: 2},
		{name: "marker", wire: "00ff*16 13 04 0000", code: 1, sub: 1},
		{name: "type 6", wire: "ff*16 0013 06", code: 1, sub: 3, data: "06"},
		{name: "length below the header", wire: "ff*16 0012 04", code: 1, sub: 2, data: "0012"},
		{name: "length over the message", wire: "ff*16 0017 02 0000", code: 1, sub: 2, data: "0017"},
		{name: "long keepalive", wire: "ff*16 0014 04 00", code: 1, sub: 2, data: "0014"},
		{name: "short route refresh", wire: "ff*16 0016 05 000100", code: 1, sub: 2, data: "0016"},
		{name: "short notification", wire: "ff*16 0014 03 06", code: 1, sub: 2, data: "0014"},
		{name: "BGP version 3", wire: "ff*16 001d 01 03 fbf0 00b4 c0000201 00", code: 2, sub: 1, data: "0004"},
		{name: "AS 0", wire: "ff*16 001d 01 04 0000 00b4 c0000201 00", code: 2, sub: 2},
		{name: "identifier 0.0.0.0", wire: "ff*16 001d 01 04 fbf0 00b4 00000000 00", code: 2, sub: 3},
		{name: "hold time 2 s", wire: "ff*16 001d 01 04 fbf0 0002 c0000201 00", code: 2, sub: 6},
		{name: "unknown parameter", wire: "ff*16 001f 01 04 fbf0 00b4 c0000201 02 01 00", code: 2, sub: 4, data: "01"},
		{name: "parameters cut off", wire: "ff*16 001e 01 04 fbf0 00b4 c0000201 02 02", code: 2, sub: 0},
		{name: "capability cut off", wire: "ff*16 0021 01 04 fbf0 00b4 c0000201 04 02 02 41 04", code: 2, sub: 0},
		{name: "four-octet AS of 2 octets", wire: "ff*16 0023 01 04 fbf0 00b4 c0000201 06 02 04 41 02 fbf0", code: 2, sub: 0},
		{name: "withdrawn routes cut off", wire: "ff*16 0017 02 0001 0000", code: 3, sub: 1},
		{name: "attributes cut off", wire: "ff*16 0017 02 0000 0001", code: 3, sub: 1},
		{name: "prefix length 33", wire: "ff*16 001c 02 0000 0000 21 c0000201", code: 3, sub: 10},
		{name: "prefix cut off", wire: "ff*16 001a 02 0000 0000 18 c000", code: 3, sub: 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := ParseMessage(wire(t, tt.wire))
			var me *MessageError
			if !errors.As(err, &me) {
				t.Fatalf("parsed %#v, error %v; want a *MessageError", m, err)
			}
			want := &Notification{Code: tt.code, Subcode: tt.sub, Data: wire(t, tt.data)}
			if d := diff(want, me.Notification()); d != "" {
				t.Errorf("%v: notification (-want +got):\n%s", err, d)
			}
		})
	}
}

func TestBrokenAttributesLeaveThePrefixes(t *testing.T) {
	t.Parallel()
	for name, attrs := range map[string]string{
		"header cut off":           "0002 40 01",
		"value cut off":            "0004 40 01 02 00",
		"extended length cut off":  "0003 50 01 00",
		"extended value cut off":   "0005 50 01 0002 00",
		"good one and cut off one": "0006 40 01 01 00 40 02",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := wire(t, "0000 "+attrs+" 18 c00002")
			m, err := parseUpdate(body)
			if err != nil {
				t.Fatal(err)
			}
			u := m.(*Update)
			if u.AttributeError == nil || len(u.Attributes) != 0 || diff(prefixes("192.0.2.0/24"), u.NLRI) != "" {
				t.Errorf("got %+v, want an attribute error, no attributes, the prefix", u)
			}
			if _, err := AppendMessage(nil, u); err == nil {
				t.Error("the broken update was sent")
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	long := make([]byte, 4000)
	for name, m := range map[string]Message{
		"IPv6 prefix":             &Update{NLRI: prefixes("2001:db8::/32")},
		"invalid prefix":          &Update{Withdrawn: make([]netip.Prefix, 1)},
		"message of 4,097 octets": &Update{Attributes: []RawAttribute{{Type: 99, Value: long}, {Type: 98, Value: long[:67]}}},
		"attribute too long":      &Update{Attributes: []RawAttribute{{Type: 99, Value: make([]byte, 65536)}}},
		"hold time 1 s":           &Open{AS: 1, HoldTime: 1, RouterID: addr("192.0.2.1")},
		"no identifier":           &Open{AS: 1},
		"long capability":         &Open{AS: 1, RouterID: addr("192.0.2.1"), Capabilities: []Capability{{Code: 9, Value: long[:256]}}},
		"too many capabilities":   &Open{AS: 1, RouterID: addr("192.0.2.1"), Capabilities: []Capability{{Code: 9, Value: long[:252]}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if b, err := AppendMessage([]byte("kept"), m); err == nil || string(b) != "kept" {
				t.Errorf("got %x, %v; want an error and nothing appended", b, err)
			}
		})
	}
}

func TestNotificationNames(t *testing.T) {
	t.Parallel()
	for want, n := range map[string]Notification{
		"Cease/Maximum Number of Prefixes Reached": {Code: 6, Subcode: 1},
		"Hold Timer Expired":                       {Code: 4},
		"Cease/77":                                 {Code: 6, Subcode: 77},
		"unknown(9)/1":                             {Code: 9, Subcode: 1},
	} {
		if got := n.String(); got != want {
			t.Errorf("%+v is %q, want %q", n, got, want)
		}
	}
}

// FuzzParseMessage: nothing makes the parser panic, and what it accepts it can
// write and reads again as the same.
func FuzzParseMessage(f *testing.F) {
	for _, tt := range wireCases() {
		f.Add(wire(f, tt.wire))
	}
	f.Add(wire(f, "ff*16 0033 02 0000 0018 40010100 50020006 0201 0000fbf0 400304c0 000201 0000 18 c00002"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			var me *MessageError
			if m != nil || !errors.As(err, &me) {
				t.Fatalf("message %#v with error %v", m, err)
			}
			if _, err := AppendMessage(nil, me.Notification()); err != nil {
				t.Fatalf("answer to a broken message: %v", err)
			}
			return
		}
		u, ok := m.(*Update)
		if ok && u.AttributeError != nil {
			return
		}
		back, err := AppendMessage(nil, m)
		if err != nil {
			t.Fatalf("parsed %#v, but: %v", m, err)
		}
		again, err := ParseMessage(back)
		if err != nil {
			t.Fatalf("wrote %x, but: %v", back, err)
		}
		if d := diff(m, again); d != "" {
			t.Fatalf("not the same again (-first +second):\n%s", d)
		}
		if ok {
			fuzzAttributes(t, u, true)
			fuzzAttributes(t, u, false)
		}
	})
}

// fuzzAttributes: what the attributes say survives being written and read.
func fuzzAttributes(t *testing.T, u *Update, as4 bool) {
	a, malformed, fatal := decodeAttributes(u.Attributes, as4)
	if malformed != nil || fatal != nil || a.missing(true) != 0 {
		return
	}
	again, malformed, fatal := decodeAttributes(encodeAttributes(a.path, as4), as4)
	if malformed != nil || fatal != nil {
		t.Fatalf("wrote attributes of %+v, but: %v, %v", a.path, malformed, fatal)
	}
	if d := diff(a.path, again.path); d != "" {
		t.Fatalf("attributes are not the same again (-first +second):\n%s", d)
	}
}
