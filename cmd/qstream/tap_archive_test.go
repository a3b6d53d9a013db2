package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/tapper/sink"
	"qstream/tapper/sink/sinks"
	"qstream/tapper/sink/sinktest"
)

// TestArchiveTable: how old the oldest copy is, and for how long the sink
// fails, as people read it.
func TestArchiveTable(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	oldest, failing := now.Add(-250*time.Second), now.Add(-49*time.Hour)
	var b strings.Builder
	err := archiveTable(&b, []archived{
		{Name: "copies", Tenant: "acme", Direction: "both", Sink: "maildir:/srv/a", Lag: 12, Oldest: &oldest, Failing: &failing, Error: "no room"},
		{Name: "rest", Direction: "in", Sink: "maildir:/srv/b"},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	for i, want := range []string{
		"NAME OF DIRECTION LAG OLDEST FAILING FOR SINK ERROR",
		"copies tenant acme both 12 4m10s 2d1h maildir:/srv/a no room",
		"rest all in 0 - - maildir:/srv/b",
	} {
		if i >= len(got) || got[i] != want {
			t.Errorf("line %d is not %q in\n%s", i, want, b.String())
		}
	}
}

// TestArchiveVerify: a folder of events is as it was written, what --last
// prints of it is what --noted wants, and what is missing is named.
func TestArchiveVerify(t *testing.T) {
	folder, note := t.TempDir(), filepath.Join(t.TempDir(), "note")
	spec, err := sink.Parse("etsi:" + folder)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sinks.New(spec, sink.Deps{Me: "mx.example"})
	if err != nil {
		t.Fatal(err)
	}
	for n := 3; n <= 5; n++ {
		if err := s.Put(t.Context(), sinktest.Envelope(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	verify := func(c tapArchiveVerifyCmd) (string, error) {
		c.Folder = folder
		var out strings.Builder
		err := c.Run(t.Context(), &Process{Stdout: &out})
		return out.String(), err
	}
	const book = "2026-03-01/events.acme.0.jsonl"
	out, err := verify(tapArchiveVerifyCmd{Last: true})
	if err != nil || !strings.HasPrefix(out, "3 records in 1 books of events, 0 files: as they were written\n"+
		"acme, lane 0 begins at 3: what came before isn't in this folder\n") || !strings.HasSuffix(out, "  "+book+"\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(note, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := verify(tapArchiveVerifyCmd{Noted: note}); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(folder, book))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(filepath.Join(folder, book), []byte(lines[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := verify(tapArchiveVerifyCmd{}); err != nil { // nobody can see it
		t.Errorf("%v\n%s", err, out)
	}
	out, err = verify(tapArchiveVerifyCmd{Noted: note})
	if err == nil || !strings.HasPrefix(out, "WRONG "+book+": the line that was noted as ") {
		t.Errorf("%v\n%s", err, out)
	}
	var told sinks.Checked
	if out, err = verify(tapArchiveVerifyCmd{Noted: note, JSON: true}); err == nil || json.Unmarshal([]byte(out), &told) != nil || len(told.Wrong) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := verify(tapArchiveVerifyCmd{Noted: filepath.Join(folder, book)}); err == nil {
		t.Error("a file without notes was taken")
	}
}
