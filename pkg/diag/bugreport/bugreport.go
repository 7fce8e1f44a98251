package bugreport

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	// itemTimeout bounds the collection of one file.
	itemTimeout = 60 * time.Second
	// maxItem bounds one file, in bytes; the end is cut off.
	maxItem = 32 << 20
)

// Item is one file of the archive.
type Item struct {
	Name string // with slashes, without the archive's folder
	// Get collects it. What it returns beside an error is kept.
	Get func(context.Context) ([]byte, error)
}

// Entry says what became of an Item.
type Entry struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
	Error string `json:"error,omitempty"` // why it is missing or not complete
}

// Write collects the items one after the other and writes the archive, all in
// one folder. CONTENTS, its last file, lists them. An item that fails is no
// error; the error is for what cannot be written, and for a context that ended.
func Write(ctx context.Context, w io.Writer, folder string, at time.Time, items []Item, s *Scrubber) ([]Entry, error) {
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	add := func(name string, data []byte) error {
		h := &tar.Header{Name: path.Join(folder, name), Mode: 0o600, Size: int64(len(data)), ModTime: at, Format: tar.FormatPAX}
		if err := archive.WriteHeader(h); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		if _, err := archive.Write(data); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		return nil
	}
	var entries []Entry
	for _, i := range items {
		e := Entry{Name: i.Name}
		data, err := collect(ctx, i)
		if ctx.Err() != nil {
			return entries, fmt.Errorf("collect %s: %w", i.Name, ctx.Err())
		}
		if len(data) > maxItem {
			data, err = data[:maxItem], fmt.Errorf("it has %d bytes; only the first %d are here", len(data), maxItem)
		}
		if err != nil {
			e.Error = string(s.Scrub([]byte(err.Error())))
		}
		if len(data) > 0 {
			data = s.Scrub(data)
			e.Bytes = len(data)
			if err := add(i.Name, data); err != nil {
				return entries, err
			}
		}
		entries = append(entries, e)
	}
	if err := add("CONTENTS", contents(at, entries)); err != nil {
		return entries, err
	}
	if err := archive.Close(); err != nil {
		return entries, fmt.Errorf("write the archive: %w", err)
	}
	if err := zip.Close(); err != nil {
		return entries, fmt.Errorf("write the archive: %w", err)
	}
	return entries, nil
}

// collect gets one item in time.
func collect(ctx context.Context, i Item) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, itemTimeout)
	defer cancel()
	return i.Get(ctx)
}

// contents lists the files for a person.
func contents(at time.Time, entries []Entry) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Collected by transitctl bugreport at %s.\n", at.UTC().Format(time.RFC3339))
	fmt.Fprintln(&b, "It has addresses, routes, AS numbers and names of this node. Keys and passwords were left out.")
	fmt.Fprintln(&b)
	width := 0
	for _, e := range entries {
		width = max(width, len(e.Name))
	}
	for _, e := range entries {
		line := fmt.Sprintf("%-*s %9d bytes", width, e.Name, e.Bytes)
		if e.Error != "" {
			line += "  " + strings.ReplaceAll(e.Error, "\n", " ")
		}
		fmt.Fprintln(&b, line)
	}
	return b.Bytes()
}

// Failed are the entries that are missing or not complete.
func Failed(entries []Entry) []Entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Error == "" })
}
