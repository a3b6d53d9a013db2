package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// part is something of a process that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
	// ready blocks until what starts after this part may start. Nil: at once.
	ready func(context.Context) error
}

// alive is a started part.
type alive struct {
	part
	stop context.CancelFunc
	done chan struct{} // closed when run has returned
	err  error         // of run; read after done
}

// live starts the parts in their order. When ctx ends, or as soon as one part
// ends by itself, it stops them in reverse order, each after the one before
// has ended, and returns what went wrong. A part that ends before it was
// stopped is an error even if it returned none.
func live(ctx context.Context, log *slog.Logger, parts []part) error {
	var started []*alive
	ended := make(chan *alive, len(parts))
	err := start(ctx, parts, ended, &started)
	if err == nil {
		select {
		case <-ctx.Done():
			log.Info("stopping")
		case a := <-ended:
			err = a.ended()
		}
	}
	if err != nil {
		log.Error("stopping", "err", err)
	}
	return errors.Join(err, stopAll(log, started))
}

func start(ctx context.Context, parts []part, ended chan *alive, started *[]*alive) error {
	for _, p := range parts {
		if ctx.Err() != nil {
			return nil
		}
		inner, stop := context.WithCancel(context.WithoutCancel(ctx))
		a := &alive{part: p, stop: stop, done: make(chan struct{})}
		*started = append(*started, a)
		go func() {
			a.err = p.run(inner)
			close(a.done)
			ended <- a
		}()
		if p.ready == nil {
			continue
		}
		if err := awaitReady(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// awaitReady waits until the part is ready; it is an error if it ends instead.
func awaitReady(ctx context.Context, a *alive) error {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- a.ready(wait) }()
	select {
	case err := <-ready:
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("start %s: %w", a.name, err)
		}
		return nil
	case <-a.done:
		return a.ended()
	}
}

func (a *alive) ended() error {
	if a.err == nil {
		return fmt.Errorf("%s ended by itself", a.name)
	}
	return fmt.Errorf("%s: %w", a.name, a.err)
}

func stopAll(log *slog.Logger, started []*alive) error {
	var errs []error
	for i := len(started) - 1; i >= 0; i-- {
		a := started[i]
		select {
		case <-a.done: // it ended by itself and has been reported, or is the reason
			a.stop()
			continue
		default:
		}
		begun := time.Now()
		a.stop()
		<-a.done
		log.Debug("stopped", "part", a.name, "took", time.Since(begun))
		if a.err != nil && !errors.Is(a.err, context.Canceled) {
			errs = append(errs, fmt.Errorf("stop %s: %w", a.name, a.err))
		}
	}
	return errors.Join(errs...)
}
