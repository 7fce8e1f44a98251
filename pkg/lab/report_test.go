package lab

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func playTwo(a Audience) Report {
	r := Report{SchemaVersion: 1, OK: true}
	for i, act := range []act{
		{"first", "First", "this", "that", func(_ context.Context, f *findings) error {
			f.audience.Waiting("something")
			f.add("answer", 42, "the answer is 42")
			f.add("quiet", true, "")
			f.sum("42 found")
			return nil
		}},
		{"second", "The second", "more", "less", func(context.Context, *findings) error { return errors.New("it broke") }},
	} {
		s := perform(context.Background(), i+1, act, a)
		s.Seconds = 0
		r.Steps, r.OK = append(r.Steps, s), r.OK && s.OK
	}
	return r
}

func TestReportIsTheContract(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(playTwo(Silent{}))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema_version":1,"steps":[{"name":"first","ok":true,"seconds":0,"measured":{"answer":42,"quiet":true}},` +
		`{"name":"second","ok":false,"error":"it broke","seconds":0,"measured":{}}],"ok":false}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTerminalWithoutColorIsPlainText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	term := NewTerminal(&b, false, false)
	term.Table(playTwo(term))
	for _, want := range []string{
		"1  First\n", "    does      this\n", "    measured  the answer is 42\n", "    failed    it broke\n",
		"1  First       ok", "2  The second  failed", "42 found", "not all steps are ok",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") || strings.Contains(b.String(), "\r") {
		t.Error("control characters in plain text")
	}
}

func TestTerminalWritesOverWhatIsWaitedFor(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	term := NewTerminal(&b, true, true)
	term.Waiting("sessions")
	term.Waiting("sessions")
	term.Done("all there")
	if got := b.String(); strings.Count(got, "sessions") != 1 || !strings.Contains(got, "\r\x1b[K") {
		t.Errorf("%q", got)
	}
}
