package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOver(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   string
	}{
		{nil, "0.00 (0.00-0.00)"},
		{[]float64{3, 1, 2}, "2.00 (1.00-3.00)"},
		{[]float64{10, 40, 20, 30}, "25.0 (10.0-40.0)"},
		{[]float64{1000.4}, "1000 (1000-1000)"},
	} {
		if got := over(tc.values).String(); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.values, got, tc.want)
		}
	}
}

// rounds are two of Postfix and qstream, the second on a machine half as fast.
var rounds = []run{
	{Workload: "10k, 10 sessions", Peer: reference, Round: 1, Relay: 600, CPU: 2},
	{Workload: "10k, 10 sessions", Peer: embeddedPeer, Round: 1, Relay: 2400, CPU: 0.4},
	{Workload: "10k, 10 sessions", Peer: embeddedPeer, Round: 2, Relay: 1260, CPU: 0.8, Lost: 2},
	{Workload: "10k, 10 sessions", Peer: reference, Round: 2, Relay: 300, CPU: 4},
	{Workload: "10k, 1 session", Peer: embeddedPeer, Round: 3, Relay: 500},
}

func TestRatiosWithinRounds(t *testing.T) {
	gs := groups(rounds)
	if len(gs) != 3 {
		t.Fatalf("%d groups, want 3", len(gs))
	}
	if gs[0].workload != "10k, 1 session" || gs[1].peer != reference {
		t.Errorf("order: %+v", gs)
	}
	relay, ok := gs[2].ratio("relay", rounds)
	if want := (spread{4.1, 4, 4.2}); !ok || !cmp.Equal(relay, want, cmp.AllowUnexported(spread{}), near) {
		t.Errorf("relay %+v, want %+v", relay, want)
	}
	if cpu, _ := gs[2].ratio("cpu", rounds); !cmp.Equal(cpu.median, 0.2, near) {
		t.Errorf("cpu %+v, want 0.2", cpu)
	}
	if _, ok := gs[0].ratio("relay", rounds); ok {
		t.Error("a ratio without Postfix in the round")
	}
	if f := gs[2].faults(); f != "2/0/0/0/0" {
		t.Errorf("faults %s", f)
	}
}

var near = cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })

func TestMarks(t *testing.T) {
	whole := slices.Clone(rounds)
	for i := range whole {
		whole[i].Lost = 0
	}
	got := marksTable(groups(whole), whole)
	for _, want := range []string{
		"| 10k, 10 sessions | qstream embedded | relay, times Postfix | at least 4 | 4.10 (4.00-4.20) | holds |",
		"| 10k, 10 sessions | qstream embedded | CPU for a mail, times Postfix | at most 0.25 | 0.20 (0.20-0.20) | holds |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n"); n != 4 {
		t.Errorf("%d lines, want 4:\n%s", n, got)
	}
	if v := (mark{bound: 2, most: true}).verdict(spread{median: 2.1}, false); v != "**falls short**" {
		t.Errorf("2.1 of at most 2: %s", v)
	}
	if got := marksTable(groups(rounds), rounds); strings.Count(got, "**lost mail**") != 2 || strings.Contains(got, "holds") {
		t.Errorf("a run that lost mail:\n%s", got)
	}
}

func TestMarksAreOfStandardWorkloads(t *testing.T) {
	names := map[string]bool{}
	for _, w := range standard() {
		names[w.filled().name()] = true
	}
	for _, m := range marks {
		if !names[m.workload] {
			t.Errorf("no standard workload %q", m.workload)
		}
		if figures[m.figure] == nil {
			t.Errorf("no figure %q", m.figure)
		}
	}
}

func TestBetween(t *testing.T) {
	page := "a\n" + beginning + "\nold\n" + ending + "\nb\n"
	got, err := between(page, "new\n\n")
	if want := "a\n" + beginning + "\nnew\n" + ending + "\nb\n"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if _, err := between("a\n"+ending+beginning, "new"); err == nil {
		t.Error("a page without markers was written")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{"10k": 10 << 10, "1m": 1 << 20, "5000": 5000, "50m": 50 << 20} {
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
		if s := sizeName(got); s != text {
			t.Errorf("%d is called %q, want %q", got, s, text)
		}
	}
	for _, text := range []string{"", "k", "10kk", "10x", "-1", "5", "1000m"} {
		if _, err := parseSize(text); err == nil {
			t.Errorf("size %q was taken", text)
		}
	}
}

func TestRunsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "runs")
	if all, err := readRuns(file); err != nil || all != nil {
		t.Fatalf("%v, %v", all, err)
	}
	want := []run{{Peer: "postfix", Round: 4, At: time.Unix(1e9, 0).UTC(), Relay: 600.5}, {Peer: "qstream", Round: 5, Lost: 1}}
	for _, r := range want {
		if err := appendRun(file, r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readRuns(file)
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
	if n := lastRound(got); n != 5 {
		t.Errorf("last round %d, want 5", n)
	}
}

func TestBrokers(t *testing.T) {
	for _, name := range brokers {
		q, err := qstream(siteFor(nil, nil), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if q.Synced != strings.HasSuffix(name, "-synced") {
			t.Errorf("%s: synced %v", name, q.Synced)
		}
	}
	if _, err := qstream(siteFor(nil, nil), "kafka2"); err == nil {
		t.Error("kafka2 was taken")
	}
}
