package scanner

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"qstream/directory"
	"qstream/directory/roster"
	"qstream/engine"
	"qstream/engine/engines"
)

// clock is a time that tests move.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(0, c.ns.Load()) }
func (c *clock) pass(d time.Duration) { c.ns.Add(int64(d)) }

func startClock(at time.Time) *clock {
	c := &clock{}
	c.ns.Store(at.UnixNano())
	return c
}

// A verdict serves others for a while only: an engine doesn't tell of all its
// signatures.
func TestVerdictsAreKeptForAWhile(t *testing.T) {
	for name, test := range map[string]struct {
		keep, after time.Duration
		scans       int
	}{
		"in time": {time.Minute, 59 * time.Second, 1},
		"later":   {time.Minute, time.Minute, 2},
		"never":   {0, 0, 2},
	} {
		at := startClock(time.Unix(1_800_000_000, 0))
		m, done := lookedAfter(t, at.now, test.keep)
		defer done()
		k, scans := newKept(2), 0
		scan := func() (bool, engine.Verdict) {
			v, old := k.scan(t.Context(), keptKey{engine: m, signatures: "1"}, func() engine.Verdict {
				scans++
				return engine.Verdict{Outcome: engine.Clean, Signatures: "1"}
			})
			return old, v
		}
		scan()
		at.pass(test.after)
		old, v := scan()
		if scans != test.scans || old != (scans == 1) || v.Outcome != engine.Clean {
			t.Errorf("%s: %d scans, old %t, %v", name, scans, old, v.Outcome)
		}
		scan()
		if len(k.found) != 1 || k.recent.Len() != 1 {
			t.Errorf("%s: %d are found, %d listed", name, len(k.found), k.recent.Len())
		}
	}
}

// lookedAfter is an engine whose verdicts are kept for so long.
func lookedAfter(t *testing.T, now func() time.Time, keep time.Duration) (*roster.Member, func()) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte(fmt.Sprintf("kind: engine\nname: x\ntype: unpack\nkeep: %ds\n", int(keep.Seconds())))})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	return roster.New("x", engines.New, now, slog.New(slog.DiscardHandler)).Use(snap, "x")
}

// What was kept of an engine answers for none of its name whose document says
// something else.
func TestVerdictsAreOfAnEngineNotOfAName(t *testing.T) {
	ms := roster.New("x", engines.New, time.Now, slog.New(slog.DiscardHandler))
	defer ms.Close()
	k, scans := newKept(9), 0
	scan := func(settings string) {
		docs, err := directory.Parse(directory.File{Name: "x", Data: []byte("kind: engine\nname: x\ntype: unpack\n" + settings)})
		if err != nil {
			t.Fatal(err)
		}
		snap, err := directory.Build(docs)
		if err != nil {
			t.Fatal(err)
		}
		m, done := ms.Use(snap, "x")
		defer done()
		k.scan(t.Context(), keptKey{engine: m, signatures: "1"}, func() engine.Verdict {
			scans++
			return engine.Verdict{Outcome: engine.Clean, Signatures: "1"}
		})
	}
	for i, settings := range []string{"", "", "limits: {member: 1000}\n", "limits: {member: 1000}\n", "limits: {total: 1000}\n", ""} {
		scan(settings)
		if want := []int{1, 1, 2, 2, 3, 4}[i]; scans != want {
			t.Fatalf("%d scans after %q, want %d", scans, settings, want)
		}
	}
}
