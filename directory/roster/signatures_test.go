package roster

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
	"qstream/test/fakeclamd"
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
	c, err := fakeclamd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Down)
	built := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c.Signed(1, built)
	at := startClock(built.Add(71 * time.Hour))
	var log bytes.Buffer
	e, err := engines.New(engine.Spec{Name: "clam", Type: engine.TypeClamd, Network: "tcp", Address: c.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	logger := slog.New(slog.NewTextHandler(&log, nil))
	ms := New("x", nil, at.now, logger)
	ms.byName["clam"] = ms.member(e, directory.Engine{Concurrency: 1, MaxAge: 72 * time.Hour})
	registry := prometheus.NewRegistry()
	g := NewGauges(registry, "x_")
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
		ms.Watch(t.Context(), g)
		age, old := gauge(t, registry, "x_signatures_age_seconds"), gauge(t, registry, "x_signatures_old")
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

// An engine that fails many scans at once is left alone no longer than one that
// fails as many in turn; what fails after that is.
func TestFailuresAtOnceCountOnce(t *testing.T) {
	at := startClock(time.Unix(1_800_000_000, 0))
	m := New("x", nil, at.now, slog.New(slog.DiscardHandler)).member(unmade{name: "x"}, directory.Engine{Concurrency: 1})
	for range 100 {
		m.Note(engine.Verdict{Outcome: engine.Failed, Reason: engine.Late})
	}
	for _, wait := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		if _, until, down := m.Down(t.Context()); !down || until.Sub(at.now()) != wait {
			t.Errorf("down %t for %v, want %v", down, until.Sub(at.now()), wait)
		}
		at.pass(wait)
		m.Note(engine.Verdict{Outcome: engine.Failed, Reason: engine.Late})
	}
}
