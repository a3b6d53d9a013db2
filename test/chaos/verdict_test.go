package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBlame(t *testing.T) {
	base := time.Unix(1_800_000_000, 0)
	at := func(s float64) time.Time { return base.Add(time.Duration(s * float64(time.Second))) }
	fault := func(k Kind, victim string, began, ended float64) span {
		return span{Fault{Kind: k, Victim: victim}, at(began), at(ended)}
	}
	kill, stop := fault(Kill, "up", 10, 11), fault(Stop, "up", 10, 12)
	cut := fault(Cut, "up>sink", 10, 12)
	for _, c := range []struct {
		name         string
		first, again float64
		spans        []span
		want         Kind
	}{
		{"nothing happened", 10, 20, nil, unexplained},
		{"under way at the first arrival", 10.5, 12, []span{kill}, Kill},
		{"just before", 9.5, 12, []span{kill}, Kill},
		{"between the arrivals", 2, 12, []span{kill}, Kill},
		{"began after the repetition", 2, 9, []span{kill}, unexplained},
		{"long over", 600, 610, []span{kill}, unexplained},
		{"a clean stop is blamed last", 10.5, 12, []span{kill, stop}, Kill},
		{"but it is blamed", 10.5, 12, []span{stop}, Stop},
		{"a process rather than a way", 10.5, 12, []span{kill, cut}, Kill},
		{"a way under way rather than an old kill", 20, 30, []span{kill, fault(Cut, "up>sink", 19, 22)}, Cut},
	} {
		if got := blame(at(c.first), at(c.again), c.spans); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFailures(t *testing.T) {
	kill, stop := []span{{Fault: Fault{Kind: Kill}}}, []span{{Fault: Fault{Kind: Stop}}}
	for _, c := range []struct {
		name    string
		v       Verdict
		spans   []span
		cleanly bool
		want    string // "": passed
	}{
		{"all well", Verdict{Accepted: 9}, kill, false, ""},
		{"lost", Verdict{Accepted: 9, Lost: []string{"a b c"}}, kill, false, "lost: 1, such as a b c"},
		{"nothing accepted", Verdict{}, kill, false, "nothing was accepted"},
		{"untried", Verdict{Accepted: 9, Untried: []string{"a"}}, kill, false, "expired untried"},
		{"a kill repeats within its bound", Verdict{Accepted: 9, Duplicates: map[Kind]int{Kill: concurrency * queues}}, kill, false, ""},
		{"and beyond it", Verdict{Accepted: 9, Duplicates: map[Kind]int{Kill: concurrency*queues + 1}}, kill, false, "duplicates, bound"},
		{"a stop repeats nothing", Verdict{Accepted: 9, Duplicates: map[Kind]int{Stop: 1}}, stop, false, "duplicates, bound"},
		{"beside a kill, too", Verdict{Accepted: 9, Duplicates: map[Kind]int{Stop: 1}}, append(kill, stop...), false, "1 duplicates of a stop"},
		{"a panic", Verdict{Accepted: 9, Panics: []string{"up.log: panic: x"}}, kill, false, "panics: 1"},
		{"nothing repeats in a clean run", Verdict{Accepted: 9, Duplicates: map[Kind]int{Stop: 1}}, stop, true, "duplicates, bound"},
		{"a repetition without a fault", Verdict{Accepted: 9, Duplicates: map[Kind]int{unexplained: 1}}, kill, false, "no fault explains"},
		{"an audit that doesn't balance", Verdict{Accepted: 9, Uneven: "x"}, kill, false, "the audit"},
	} {
		got := strings.Join(c.v.failures(c.spans, c.cleanly), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPanics(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"up.log":      "level=INFO msg=\"no panic: here\"\npanic: runtime error: index out of range\n\ngoroutine 1 [running]:\n",
		"router.log":  "level=ERROR msg=ended\n",
		"deliver.log": "fatal error: all goroutines are asleep - deadlock!\n",
		"else.txt":    "panic: of nobody\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := panics(dir)
	want := []string{"deliver.log: fatal error: all goroutines are asleep - deadlock!", "up.log: panic: runtime error: index out of range"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
