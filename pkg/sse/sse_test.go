package sse

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func readAll(t *testing.T, r io.Reader) (list []Message) {
	t.Helper()
	in := NewReader(r)
	for {
		m, err := in.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
}

func TestWriterAndReader(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	w := NewWriter(rec)
	for _, err := range []error{
		w.Send("event", "7", []byte(`{"a":1}`)), w.Beat(), w.Send("", "", []byte("two\nlines\n")), w.Send("x", "", nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if rec.Header().Get("Content-Type") != "text/event-stream" || !rec.Flushed {
		t.Errorf("header %v, flushed %v", rec.Header(), rec.Flushed)
	}
	want := []Message{
		{Name: "event", ID: "7", Data: []byte(`{"a":1}`)},
		{Name: "message", Data: []byte("two\nlines\n")},
		{Name: "x", Data: []byte{}},
	}
	if d := cmp.Diff(want, readAll(t, rec.Body)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     []Message
	}{
		{"nothing", "", nil},
		{"an unfinished message", "data: a\n", nil},
		{"all kinds of line ends", "data: a\r\rdata: b\r\n\r\ndata: c\n\n", []Message{
			{Name: "message", Data: []byte("a")}, {Name: "message", Data: []byte("b")}, {Name: "message", Data: []byte("c")},
		}},
		{"a name without data is no message", "event: x\n\ndata: a\n\n", []Message{{Name: "message", Data: []byte("a")}}},
		{"comments, unknown fields, no space", ": hello\nretry: 5\ndata:a\ndata\nid\n\n", []Message{{Name: "message", Data: []byte("a\n")}}},
		{"a colon in the data", "data: a: b\n\n", []Message{{Name: "message", Data: []byte("a: b")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(c.want, readAll(t, strings.NewReader(c.in))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.want, readAll(t, iotest.OneByteReader(strings.NewReader(c.in)))); d != "" {
				t.Errorf("byte by byte (-want +got):\n%s", d)
			}
		})
	}
}

func TestReaderIsBounded(t *testing.T) {
	t.Parallel()
	if _, err := NewReader(strings.NewReader("data: " + strings.Repeat("x", maxLine))).Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a line without an end: %v", err)
	}
	if _, err := NewReader(strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 5))).Next(); !errors.Is(err, ErrTooLong) {
		t.Errorf("a message without an end: %v", err)
	}
}

// Whatever comes: no panic, and what was read is the same however it arrives.
func FuzzReader(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "event: x\r\nid: 1\r\ndata: {}\r\n\r\n", ":\n\ndata\r\rdata:b", "\n\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		all := readAll(t, bytes.NewReader(in))
		if d := cmp.Diff(all, readAll(t, iotest.OneByteReader(bytes.NewReader(in)))); d != "" {
			t.Errorf("byte by byte (-want +got):\n%s", d)
		}
		for _, m := range all {
			if bytes.ContainsRune(m.Data, '\r') || strings.ContainsAny(m.Name+m.ID, "\r\n") {
				t.Errorf("a line end in %q", m)
			}
		}
	})
}
