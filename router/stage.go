// Package router decides the tenant, the queue and the destination of each
// recipient: it turns received and reinjected messages into legs.
//
// Guarantee: each recipient of a message ends in exactly one leg, and the legs,
// their events and the progress become visible in one transaction.
//
// Guarantee: a message is decided with a directory at least as new as the one
// its writer saw.
//
// Guarantee: a routed event names recipients of its own tenant only.
//
// A record that repeats an earlier one is dropped and counted while its
// identity is among the last 10,000 of its partition that this process has
// seen. A record that can't be read goes to the deadletter topic.
//
// The router does no I/O besides the bus: whether a best MX is this host
// itself shows at the attempt.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
)

// Deps are what a Router works with. Bus and Directory are required; the
// directory's follower is run by the caller.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Log       *slog.Logger          // default: discards
	Metrics   prometheus.Registerer // default: none
	Now       func() time.Time      // default time.Now
}

// Router is the stage.
type Router struct {
	cfg     Config
	deps    Deps
	seen    *bus.Seen
	metrics *metrics
}

// New checks cfg and deps; it starts nothing.
func New(cfg Config, d Deps) (*Router, error) {
	if d.Bus == nil || d.Directory == nil {
		return nil, errors.New("router: bus and directory are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Router{cfg: cfg, deps: d, seen: bus.NewSeen(cfg.Remember), metrics: newMetrics(d.Metrics)}, nil
}

// Run routes until ctx ends.
func (r *Router) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.deps.Directory.Ready():
	}
	from := bus.NewTopics(schemas.Received, schemas.Reinject)
	return r.deps.Bus.Transform(ctx, schemas.RouterGroup, from, r.step)
}

// Ready is nil once messages can be decided.
func (r *Router) Ready() error {
	select {
	case <-r.deps.Directory.Ready():
		return nil
	default:
		return errors.New("router: no directory yet")
	}
}

// step is a bus.Step; it keeps no state in the commits.
func (r *Router) step(ctx context.Context, state []byte, rec bus.Record) ([]bus.Record, []byte, error) {
	m, err := decode(rec)
	if err != nil {
		r.metrics.poison.Inc()
		return nil, state, err
	}
	if r.seen.Repeated(rec, m.identity()) {
		r.metrics.duplicates.Inc()
		r.deps.Log.Warn("repeated record dropped", "stage", stageName, "msg_id", m.id,
			"topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset)
		return nil, state, nil
	}
	snapshot, err := r.snapshot(ctx, m.directory)
	if err != nil {
		return nil, state, err
	}
	m.believe(snapshot)
	legs, events := route(m, view{number: snapshot.Number, decide: snapshot.Decide, now: r.deps.Now()})
	out := make([]bus.Record, 0, len(legs)+len(events))
	for _, l := range legs {
		out = append(out, bus.NewLeg(topic(l), l))
	}
	for _, e := range events {
		out = append(out, bus.NewEvent(e))
	}
	r.metrics.routed(m, legs)
	return out, state, nil
}

// snapshot is the newest one, at least number: a route that the edge already
// saw must not be missing here, or mail would be refused that was accepted.
func (r *Router) snapshot(ctx context.Context, number uint64) (*directory.Snapshot, error) {
	wait, stop := context.WithTimeout(ctx, r.cfg.Behind)
	defer stop()
	for {
		changed := r.deps.Directory.Changed()
		s := r.deps.Directory.Snapshot()
		if s.Number >= number {
			return s, nil
		}
		select {
		case <-changed:
		case <-wait.Done():
			return nil, fmt.Errorf("directory is at %d, the record was decided with %d", s.Number, number)
		}
	}
}
