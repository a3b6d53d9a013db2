// Package tapper copies chosen mail and events out of the stream: each part
// stands in a folder of its own and reads the topics for itself.
//
// Guarantee: no part delays mail. They are readers with progress of their own,
// and what stops one stops neither the others nor any other stage.
//
// A part that ends with an error ends the stage: its process is started again,
// and goes on where the parts' progress stands.
package tapper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/tapper/tenants"
)

// Deps are what the parts work with. Bus, Directory and Control are required;
// the followers are run by the caller.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Control   *control.Follower
	Log       *slog.Logger          // default: discards
	Metrics   prometheus.Registerer // default: none
	Now       func() time.Time      // default time.Now
}

// part is one reader of the stream.
type part interface {
	Run(ctx context.Context) error
	Ready() error
}

// named is a part with its name, for errors.
type named struct {
	name string
	part
}

// Tapper is the stage.
type Tapper struct {
	deps  Deps
	parts []named
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Tapper, error) {
	if d.Bus == nil || d.Directory == nil || d.Control == nil {
		return nil, errors.New("tapper: bus, directory and control are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	parts, err := cfg.parts(d)
	if err != nil {
		return nil, fmt.Errorf("tapper: %w", err)
	}
	return &Tapper{deps: d, parts: parts}, nil
}

// Run runs the parts until ctx ends.
func (t *Tapper) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-t.deps.Directory.Ready():
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { // also without any part
		<-ctx.Done()
		return nil
	})
	for _, p := range t.parts {
		g.Go(func() error {
			if err := p.Run(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Ready is nil once every part can work.
func (t *Tapper) Ready() error {
	select {
	case <-t.deps.Directory.Ready():
	default:
		return errors.New("tapper: no directory yet")
	}
	for _, p := range t.parts {
		if err := p.Ready(); err != nil {
			return fmt.Errorf("tapper: %s: %w", p.name, err)
		}
	}
	return nil
}

// Events answers tenants who ask for their events over HTTP, at tenants.Path.
func (t *Tapper) Events() http.Handler {
	for _, p := range t.parts {
		if own, ok := p.part.(*tenants.Tenants); ok {
			return own.Handler()
		}
	}
	return http.NotFoundHandler()
}
