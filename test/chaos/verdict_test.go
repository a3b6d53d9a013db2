package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"qstream/test/fakemx"
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
		{"who delivers rather than who doesn't", 10.5, 12, []span{fault(BrokerStop, "broker-3", 10, 11), fault(Kill, "delay", 10, 11)}, BrokerStop},
		{"a way under way rather than an old kill", 20, 30, []span{kill, fault(Cut, "up>sink", 19, 22)}, Cut},
	} {
		got := unexplained
		if i := blame(at(c.first), at(c.again), c.spans); i >= 0 {
			got = c.spans[i].Kind
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name    string
		v       Verdict
		cleanly bool
		want    string // "": passed
	}{
		{"all well", Verdict{Accepted: 9}, false, ""},
		{"lost", Verdict{Accepted: 9, Lost: []string{"a b c"}}, false, "lost: 1, such as a b c"},
		{"nothing accepted", Verdict{}, false, "nothing was accepted"},
		{"untried", Verdict{Accepted: 9, Untried: []string{"a"}}, false, "expired untried"},
		{"a kill repeats", Verdict{Accepted: 9, Duplicates: map[Kind]int{Kill: 3}}, false, ""},
		{"and beyond its bound", Verdict{Accepted: 9, Duplicates: map[Kind]int{Kill: 300}, Excess: []string{"300 by fault 1"}}, false, "guarantee 5 allows: 1, such as 300 by fault 1"},
		{"a stop repeats nothing", Verdict{Accepted: 9, Duplicates: map[Kind]int{Stop: 1}}, false, "1 duplicates of a stop"},
		{"a panic", Verdict{Accepted: 9, Panics: []string{"up.log: panic: x"}}, false, "panics: 1"},
		{"nothing repeats in a clean run", Verdict{Accepted: 9, Duplicates: map[Kind]int{Stop: 1}}, true, "1 duplicates in a clean round"},
		{"a repetition without a fault", Verdict{Accepted: 9, Duplicates: map[Kind]int{unexplained: 1}}, false, "no fault explains"},
		{"an audit that doesn't balance", Verdict{Accepted: 9, Uneven: "x"}, false, "the audit"},
	} {
		got := strings.Join(c.v.failures(c.cleanly), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestAllowed holds the bound of one fault against what may have been under
// way: it doesn't grow with the faults of a round that are far from it.
func TestAllowed(t *testing.T) {
	base := time.Unix(1_800_000_000, 0)
	at := func(s float64) time.Time { return base.Add(time.Duration(s * float64(time.Second))) }
	fault := func(n int, k Kind, victim string, began, ended float64) span {
		return span{Fault{N: n, Kind: k, Victim: victim}, at(began), at(ended)}
	}
	const each = concurrency * queues
	kill := fault(1, Kill, "deliver", 10, 12)
	for _, c := range []struct {
		name     string
		spans    []span
		arrivals []float64
		workers  int
		want     int
	}{
		{"alone", []span{kill}, nil, 1, each},
		{"two deliver", []span{kill}, nil, 2, 2 * each},
		{"what arrives in half a second", []span{kill}, []float64{2, 10.1, 10.3, 10.6, 11.9, 12.1, 12.2, 12.3, 30}, 1, each + 4},
		{"another far away", []span{kill, fault(2, Kill, "deliver-2", 14, 15)}, nil, 1, each},
		{"another beside", []span{kill, fault(2, Cut, "deliver-2>broker-1", 11, 15)}, nil, 1, 2 * each},
		{"another of those that deliver nothing", []span{kill, fault(2, Kill, "router-2", 11, 15), fault(3, Reset, "source>edge", 11, 12), fault(4, Stop, "deliver", 11, 12)}, nil, 1, each},
		{"a stop", []span{fault(1, Stop, "deliver", 10, 12)}, nil, 1, 0},
	} {
		var arrivals []fakemx.Message
		for _, s := range c.arrivals {
			arrivals = append(arrivals, fakemx.Message{Time: at(s)})
		}
		if got := allowed(0, c.spans, arrivals, c.workers); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestAttribute has one mail more than a fault may repeat.
func TestAttribute(t *testing.T) {
	base := time.Unix(1_800_000_000, 0)
	spans := []span{{Fault{N: 7, Kind: Kill, Victim: "up"}, base, base.Add(time.Second)}}
	var arrivals []fakemx.Message
	for again := range 2 {
		for i := range concurrency*queues + 2 {
			at := base.Add(time.Duration(again)*time.Minute + time.Duration(i)*600*time.Millisecond/(concurrency*queues))
			arrivals = append(arrivals, fakemx.Message{ID: fmt.Sprintf("load-%d-x", i), Time: at})
		}
	}
	few := append([]fakemx.Message{}, arrivals[:concurrency*queues+2]...)
	few = append(few, arrivals[len(arrivals)-1])
	for n, some := range map[int][]fakemx.Message{1: few, concurrency*queues + 2: arrivals} {
		kinds, repeats, excess := attribute(some, nil, spans, 0)
		if kinds[Kill] != n || len(repeats) != n {
			t.Errorf("%d duplicates: %v, %d listed", n, kinds, len(repeats))
		}
		if tooMany := n > 50; tooMany != (len(excess) == 1) {
			t.Errorf("%d duplicates: excess %v", n, excess)
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
