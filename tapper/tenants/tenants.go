// Package tenants gives tenants their own events: on a topic of their own where
// their document asks for it, and over HTTP.
//
// Guarantee: a tenant's events come onto its topic exactly once, in the order
// of the events topic for each message, from when its document asked on.
// Guarantee: a tenant sees its own view of events (package view), and no other
// tenant's.
//
// On the embedded broker a kill may repeat an event, with its id, on the events
// topic and so here.
package tenants

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/view"
)

// lookEvery is how often a group that couldn't begin tries again.
const lookEvery = time.Second

// Deps are what it works with. Bus and Directory are required.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	// Identify says who asks over HTTP, and whose events it may read; without
	// it nobody may.
	Identify func(*http.Request) (user, tenant string, err error)
	Log      *slog.Logger          // default: discards
	Metrics  prometheus.Registerer // default: none
	Now      func() time.Time      // default time.Now
}

// Tenants is the part.
type Tenants struct {
	deps    Deps
	metrics *metrics
	from    *bus.Topics
	begun   atomic.Bool
	asking  asking
	// writeTime is how long who asks may take for a piece of an answer.
	writeTime time.Duration
}

// New checks d; it starts nothing.
func New(d Deps) (*Tenants, error) {
	if d.Bus == nil || d.Directory == nil {
		return nil, errors.New("bus and directory are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return &Tenants{deps: d, metrics: newMetrics(d.Metrics), from: bus.NewTopics(), writeTime: writeTime}, nil
}

// Run derives tenants' topics until ctx ends. While no tenant asks for one it
// reads nothing.
func (t *Tenants) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- t.deps.Bus.Transform(ctx, schemas.TenantsGroup, t.from, t.step) }()
	for {
		changed := t.deps.Directory.Changed()
		t.follow(ctx)
		retry := time.NewTimer(lookEvery)
		if t.begun.Load() {
			retry.Stop()
		}
		select {
		case err := <-ended:
			retry.Stop()
			return err
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			cancel()
			return <-ended
		}
		retry.Stop()
	}
}

// follow begins or ends reading, as the directory asks.
func (t *Tenants) follow(ctx context.Context) {
	since, asked := first(t.deps.Directory.Snapshot())
	if !asked {
		t.from.Set()
		t.begun.Store(true)
		return
	}
	if err := t.deps.Bus.Begin(ctx, schemas.TenantsGroup, []string{schemas.Events}, since); err != nil {
		t.begun.Store(false)
		if ctx.Err() == nil {
			t.deps.Log.Warn("tenants' events can't be read yet, trying again", "topic", schemas.Events, "err", err)
		}
		return
	}
	t.from.Set(schemas.Events)
	t.begun.Store(true)
}

// first is since when the first tenant reads.
func first(s *directory.Snapshot) (since time.Time, asked bool) {
	for _, t := range s.Tenants() {
		if t.Events.Topic && (!asked || t.Events.Since.Before(since)) {
			since, asked = t.Events.Since, true
		}
	}
	return since, asked
}

// Ready is nil once it reads what is asked for.
func (t *Tenants) Ready() error {
	if !t.begun.Load() {
		return errors.New("events can't be read yet")
	}
	return nil
}

// step makes the views of one event.
func (t *Tenants) step(_ context.Context, _ []byte, r bus.Record) ([]bus.Record, []byte, error) {
	e := &pb.Event{}
	if err := proto.Unmarshal(r.Value, e); err != nil {
		// It is nobody's, and on the deadletter topic it would count as mail.
		t.deps.Log.Error("record is no event, skipped", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "err", err)
		t.metrics.skipped.Inc()
		return nil, nil, nil
	}
	out := views(t.deps.Directory.Snapshot(), e, r.Time)
	t.metrics.derived.Add(float64(len(out)))
	return out, nil, nil
}

// views are the records that an event makes on tenants' topics; at is its
// append time. At most one tenant sees an event.
func views(s *directory.Snapshot, e *pb.Event, at time.Time) []bus.Record {
	name := e.Tenant
	if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED {
		name = e.GetSession().GetTenant()
	}
	tenant := s.Tenant(name)
	if tenant == nil || !tenant.Events.Topic || at.Before(tenant.Events.Since) {
		return nil
	}
	v := view.Of(e, name, view.OwnerIn(s))
	if v == nil {
		return nil
	}
	r := bus.NewEvent(v)
	r.Topic = schemas.TenantEvents(name)
	return []bus.Record{r}
}
