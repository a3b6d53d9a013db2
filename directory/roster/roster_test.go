package roster

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/directory"
	"qstream/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// said answers every scan alike.
type said struct{ v engine.Verdict }

func (s said) Name() string                                                  { return "x" }
func (s said) Scan(context.Context, io.Reader, *engine.Facts) engine.Verdict { return s.v }
func (s said) State(context.Context) (engine.State, error)                   { return engine.State{}, nil }
func (s said) Close() error                                                  { return nil }

// An engine that gives no verdicts is down after some; content that can't be
// read says nothing of it.
func TestDown(t *testing.T) {
	now := time.Now()
	r := New("test", nil, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		reason engine.Reason
		down   bool
	}{{engine.Unreadable, false}, {engine.Broken, true}, {engine.Late, true}} {
		v := engine.Verdict{Outcome: engine.Failed, Reason: c.reason}
		m := r.member(said{v}, directory.Engine{Concurrency: 1})
		for range 2 * breakAfter {
			m.Note(v)
		}
		why, until, down := m.Down(t.Context())
		if m.IsDown() != c.down || down != c.down || down && (!until.After(now) || why.Reason != c.reason) {
			t.Errorf("%v: down %t %t until %v", c.reason, m.IsDown(), down, until)
		}
		m.Note(engine.Verdict{Outcome: engine.Clean})
		if m.IsDown() {
			t.Errorf("%v: down after a verdict", c.reason)
		}
	}
}

// A filter that greylists has most mail come again, and works. One that says so
// of all mail for a while is down.
func TestGreylistingIsNotDown(t *testing.T) {
	now := time.Now()
	r := New("test", nil, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	again := engine.Verdict{Outcome: engine.Failed, Reason: engine.Trouble, Advice: engine.Defer}
	m := r.member(said{again}, directory.Engine{Concurrency: 1})
	for i := range 10 {
		if i > 0 { // a process that has just begun has no verdict yet
			m.Note(engine.Verdict{Outcome: engine.Clean})
			now = now.Add(10 * deferFor) // nothing comes
		}
		for range 10 * breakAfter {
			now = now.Add(deferFor / (10*breakAfter + 1))
			m.Note(again)
		}
		if _, _, down := m.Down(t.Context()); down {
			t.Fatal("down while it gives verdicts on other mail")
		}
	}
	if _, ok := m.Proven(t.Context()); !ok {
		t.Error("it is not taken for an engine that works")
	}
	now = now.Add(deferFor)
	for range breakAfter {
		m.Note(again)
	}
	if _, _, down := m.Down(t.Context()); !down {
		t.Error("not down though all mail has to come again")
	}
}
