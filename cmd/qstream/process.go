package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Process is what every verb is given of the process it runs in.
type Process struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Log            *slog.Logger     // to Stderr
	Now            func() time.Time // the clock, shifted by QSTREAM_CLOCK_OFFSET
	Failpoint      func(string)     // kills the process where QSTREAM_FAILPOINT says
	SlowSync       time.Duration    // of each flush of the embedded broker: QSTREAM_SLOW_SYNC
}

// newProcess reads what tests inject by the environment: clock, failpoint and
// slow disk.
func newProcess(stdin io.Reader, stdout, stderr io.Writer) (*Process, error) {
	now, err := clock(os.Getenv("QSTREAM_CLOCK_OFFSET"))
	if err != nil {
		return nil, err
	}
	failpoint, err := failpoints(os.Getenv("QSTREAM_FAILPOINT"), killSelf)
	if err != nil {
		return nil, err
	}
	var slow time.Duration
	if text := os.Getenv("QSTREAM_SLOW_SYNC"); text != "" {
		if slow, err = time.ParseDuration(text); err != nil {
			return nil, usagef("QSTREAM_SLOW_SYNC: %w", err)
		}
	}
	var level slog.Level
	if text := os.Getenv("QSTREAM_LOG"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			return nil, usagef("QSTREAM_LOG: %w", err)
		}
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	return &Process{Stdin: stdin, Stdout: stdout, Stderr: stderr, Log: log, Now: now, Failpoint: failpoint, SlowSync: slow}, nil
}

// signals ends the context at the first SIGTERM or ctrl-c; a second one kills
// the process as if nobody listened.
func signals() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// clock is time.Now, shifted by offset (a Go duration such as "240h") for
// tests of clocks that are wrong.
func clock(offset string) (func() time.Time, error) {
	if offset == "" {
		return time.Now, nil
	}
	shift, err := time.ParseDuration(offset)
	if err != nil {
		return nil, usagef("QSTREAM_CLOCK_OFFSET: %w", err)
	}
	return func() time.Time { return time.Now().Add(shift) }, nil
}
