package scan

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"qstream/directory"
	"qstream/engine"
)

// slow says clean, but only when the time is over.
type slow struct{ name string }

func (e slow) Name() string { return e.name }

func (e slow) Scan(ctx context.Context, _ io.Reader, _ *engine.Facts) engine.Verdict {
	<-ctx.Done()
	return engine.Verdict{Engine: e.name, Outcome: engine.Clean}
}

func (slow) State(context.Context) (engine.State, error) { return engine.State{}, nil }

func (slow) Close() error { return nil }

// A verdict at the last moment leaves no time for the other engines: what they
// were not asked about isn't accepted as scanned.
func TestOutOfTimeBetweenEngines(t *testing.T) {
	snap := built(t, "")
	synctest.Test(t, func(t *testing.T) {
		s, err := New(0, Deps{Engine: func(spec engine.Spec) (engine.Engine, error) { return slow{spec.Name}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.roster.Close()
		a, err := s.Ask(t.Context(), Question{
			Snapshot: snap, Lane: "x", Domains: []string{"a.example"}, Facts: &engine.Facts{},
			Scan: directory.SessionScan{Policy: "p", Deadline: time.Second, Busy: directory.AtDefer, Late: directory.AtStage, Down: directory.AtDefer},
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil },
		})
		if err != nil || a.Fate() != Leave || len(a.Scan.Verdicts) != 1 || a.Scan.Owed != "p" {
			t.Errorf("%v, %v, %v", a.Fate(), a.Scan, err)
		}
	})
}
