package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

// steady is a part that runs until it is stopped.
func (j *journal) steady(name string) part {
	up := make(chan struct{})
	return part{
		name: name,
		run: func(ctx context.Context) error {
			j.note("+" + name)
			close(up)
			<-ctx.Done()
			j.note("-" + name)
			return ctx.Err()
		},
		ready: func(context.Context) error { <-up; return nil },
	}
}

func TestLiveStartsInOrderAndStopsInReverse(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	j := &journal{}
	last := j.steady("ingest")
	ready := last.ready
	last.ready = func(ctx context.Context) error { defer cancel(); return ready(ctx) }
	if err := live(ctx, slog.New(slog.DiscardHandler), []part{j.steady("directory"), j.steady("router"), last}); err != nil {
		t.Fatal(err)
	}
	want := []string{"+directory", "+router", "+ingest", "-ingest", "-router", "-directory"}
	if !slices.Equal(j.lines, want) {
		t.Errorf("got %v, want %v", j.lines, want)
	}
}

func TestLiveEndsWithTheFirstPartThatEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		part part
		want string
	}{
		{"error", part{name: "router", run: func(context.Context) error { return errors.New("boom") }}, "router: boom"},
		{"silent end", part{name: "router", run: func(context.Context) error { return nil }}, "router ended by itself"},
		{"end before ready", part{name: "router", run: func(context.Context) error { return errors.New("boom") },
			ready: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, "router: boom"},
		{"never ready", part{name: "router", run: func(ctx context.Context) error { <-ctx.Done(); return nil },
			ready: func(context.Context) error { return errors.New("no topics") }}, "start router: no topics"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			j := &journal{}
			err := live(ctx, slog.New(slog.DiscardHandler), []part{j.steady("directory"), c.part})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if !slices.Contains(j.lines, "-directory") {
				t.Error("the other part was not stopped")
			}
		})
	}
}
