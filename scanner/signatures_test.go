package scanner

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/directory"
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

// Signatures that nobody renews are told by metrics and one line of the log;
// new ones end that, and an engine that is down changes nothing.
func TestSignaturesGrowOld(t *testing.T) {
	c, built := clam(t), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c.Signed(1, built)
	at := startClock(built.Add(71 * time.Hour))
	var log bytes.Buffer
	e, err := engines.New(engine.Spec{Name: "clam", Type: engine.TypeClamd, Network: "tcp", Address: c.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	logger := slog.New(slog.NewTextHandler(&log, nil))
	x := newMember(e, directory.Engine{Concurrency: 1, MaxAge: 72 * time.Hour}, at.now, logger)
	ms := &members{now: at.now, log: logger, byName: map[string]*member{"clam": x}}
	registry := prometheus.NewRegistry()
	m := newMetrics(registry, func() float64 { return 0 })
	for _, step := range []struct {
		name     string
		change   func()
		age, old float64
	}{
		{"new enough", func() {}, 71 * 3600, 0},
		{"too old", func() { at.pass(2 * time.Hour) }, 73 * 3600, 1},
		{"still", func() { at.pass(time.Hour) }, 74 * 3600, 1},
		{"down", func() { at.pass(time.Hour); c.Down() }, 0, 1},
		{"renewed", func() {
			at.pass(time.Hour)
			c.Signed(2, at.now().Add(-time.Hour))
			if err := c.Up(); err != nil {
				t.Fatal(err)
			}
		}, 3600, 0},
	} {
		step.change()
		ms.watch(t.Context(), m)
		age, old := gauge(t, registry, "qstream_scanner_signatures_age_seconds"), gauge(t, registry, "qstream_scanner_signatures_old")
		if age != step.age || old != step.old {
			t.Errorf("%s: age %v, old %v, want %v and %v", step.name, age, old, step.age, step.old)
		}
	}
	for line, n := range map[string]int{"signatures are too old": 1, "signatures are renewed": 1} {
		if got := strings.Count(log.String(), line); got != n {
			t.Errorf("%q stands %d times in the log:\n%s", line, got, log.String())
		}
	}
}

// gauge is the one sample of a metric; 0 if there is none.
func gauge(t *testing.T, r prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
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
		m := newMember(unmade{name: "x"}, directory.Engine{Concurrency: 1, Keep: test.keep}, at.now, slog.New(slog.DiscardHandler))
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

// An engine that fails many scans at once is left alone no longer than one that
// fails as many in turn; what fails after that is.
func TestFailuresAtOnceCountOnce(t *testing.T) {
	at := startClock(time.Unix(1_800_000_000, 0))
	m := newMember(unmade{name: "x"}, directory.Engine{Concurrency: 1}, at.now, slog.New(slog.DiscardHandler))
	for range 100 {
		m.note(engine.Verdict{Outcome: engine.Failed, Reason: engine.Late})
	}
	for _, wait := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		if _, until, down := m.down(t.Context()); !down || until.Sub(at.now()) != wait {
			t.Errorf("down %t for %v, want %v", down, until.Sub(at.now()), wait)
		}
		at.pass(wait)
		m.note(engine.Verdict{Outcome: engine.Failed, Reason: engine.Late})
	}
}
