package main

import (
	"strings"
	"testing"
	"time"
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
