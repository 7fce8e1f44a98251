// Package sse writes and reads server-sent events, as the HTML standard has
// them (section 9.2, "Server-sent events").
//
// A Writer gives each message a deadline: a client that does not read makes Send
// fail after that time, and holds nothing but its own connection meanwhile. A
// Reader takes messages of a bounded size.
//
// There is no goroutine here; both belong to one caller.
package sse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// writeTimeout is how long a message may take to be taken by the client's kernel.
	writeTimeout = 10 * time.Second
	// beatInterval is how often something is said, so that both ends notice when the other is gone.
	beatInterval = 10 * time.Second
	// maxLine bounds a line that is read, in bytes.
	maxLine = 4 << 20
)

// NewBeat ticks when Writer.Beat is due. Stop it.
func NewBeat() *time.Ticker { return time.NewTicker(beatInterval) }

// Writer sends messages as an answer.
type Writer struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

// NewWriter begins an answer. The server's own write timeout is replaced by one for each message.
func NewWriter(w http.ResponseWriter) *Writer {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx, if one is in front
	w.WriteHeader(http.StatusOK)
	return &Writer{w: w, ctrl: http.NewResponseController(w)}
}

// Send sends one message; name and id may be empty, and have no line breaks.
func (w *Writer) Send(name, id string, data []byte) error {
	var b bytes.Buffer
	if name != "" {
		fmt.Fprintf(&b, "event: %s\n", name)
	}
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		b.WriteString("data: ")
		b.Write(line)
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return w.write(b.Bytes())
}

// Beat sends a comment, which readers pass over.
func (w *Writer) Beat() error { return w.write([]byte(": beat\n\n")) }

func (w *Writer) write(b []byte) error {
	// A connection without deadlines (in a test) is no reason not to send.
	_ = w.ctrl.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := w.w.Write(b); err != nil {
		return fmt.Errorf("send an event: %w", err)
	}
	if err := w.ctrl.Flush(); err != nil {
		return fmt.Errorf("send an event: %w", err)
	}
	return nil
}

// Message is what was received.
type Message struct {
	Name string // "message" if the sender gave none
	ID   string
	Data []byte
}

// Reader reads messages.
type Reader struct{ lines *bufio.Scanner }

// NewReader reads from r. Lines beyond 4 MB are an error.
func NewReader(r io.Reader) *Reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	s.Split(splitLines)
	return &Reader{s}
}

// splitLines ends lines at CRLF, LF or CR. A last line without an end is no line.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	i := bytes.IndexAny(data, "\r\n")
	switch {
	case i < 0 && atEOF:
		return len(data), nil, nil
	case i < 0:
		return 0, nil, nil
	case data[i] == '\n':
		return i + 1, data[:i], nil
	case i+1 < len(data) && data[i+1] == '\n':
		return i + 2, data[:i], nil
	case i+1 == len(data) && !atEOF:
		return 0, nil, nil // a line feed may follow
	}
	return i + 1, data[:i], nil
}

// ErrTooLong says that a message is longer than a Reader takes.
var ErrTooLong = errors.New("sse: the message is too long")

// Next waits for the next message that has data. The error is io.EOF at the end
// of the stream; what was not ended by an empty line is dropped then.
func (r *Reader) Next() (Message, error) {
	m := Message{Name: "message"}
	seen := false
	for r.lines.Scan() {
		line := r.lines.Bytes()
		if len(line) == 0 {
			if seen {
				m.Data = bytes.TrimSuffix(m.Data, []byte("\n"))
				return m, nil
			}
			m = Message{Name: "message", ID: m.ID}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			m.Name = string(value)
		case "id":
			m.ID = string(value)
		case "data":
			if len(m.Data)+len(value) >= maxLine {
				return m, ErrTooLong
			}
			m.Data, seen = append(append(m.Data, value...), '\n'), true
		}
	}
	if err := r.lines.Err(); err != nil {
		return m, fmt.Errorf("read an event: %w", err)
	}
	return m, io.EOF
}
