// Package webhook posts events to the endpoints of the directory's webhooks,
// signed as Standard Webhooks say.
//
// Guarantee: each event that a webhook asks for is posted until its endpoint
// takes it, or until the webhook's policy gives it up, which is told and kept:
// over outages of the endpoint, and over ends of processes. It may be posted
// more than once, with the same id.
// Guarantee: an event is posted after all earlier ones of its message were
// taken or given up.
// Guarantee: webhooks don't wait for each other, and nobody waits for them.
// Guarantee: a tenant's webhook gets the tenant's view of events (package view).
// Guarantee: unless its document says so, nothing is posted to an address that
// is not of the Internet; redirects are not followed.
package webhook

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/schemas"
)

// lookEvery is how often orders are looked at, and what failed is tried again.
const lookEvery = 500 * time.Millisecond

// Deps are what it works with. Bus, Directory and Control are required.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Control   *control.Follower
	Log       *slog.Logger          // default: discards
	Metrics   prometheus.Registerer // default: none
	Now       func() time.Time      // default time.Now
}

// Webhooks is the part.
type Webhooks struct {
	deps    Deps
	metrics *metrics
	bodies  *bodies

	mu      sync.Mutex
	running map[string]*running
}

// running is a webhook that is posted to, as it was ordered.
type running struct {
	order order
	stop  context.CancelFunc
	done  chan struct{}
}

// order is what decides how a webhook is run: another order, another run.
type order struct {
	hook  *directory.Webhook
	text  string // of the document
	begin beginning
}

// New checks d; it starts nothing.
func New(d Deps) (*Webhooks, error) {
	if d.Bus == nil || d.Directory == nil || d.Control == nil {
		return nil, errors.New("bus, directory and control are required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return &Webhooks{deps: d, metrics: newMetrics(d.Metrics), bodies: newBodies(), running: map[string]*running{}}, nil
}

// Run posts until ctx ends.
func (w *Webhooks) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.deps.Control.Ready():
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := w.deps.Directory.Changed()
		w.follow(ctx)
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			w.stopAll()
			return nil
		}
	}
}

// Ready is nil once orders are known.
func (w *Webhooks) Ready() error {
	select {
	case <-w.deps.Control.Ready():
		return nil
	default:
		return errors.New("no orders yet")
	}
}

// follow stops what isn't wanted so any more, and starts what is. A webhook
// that is changed ends first: its posts under way are waited for.
func (w *Webhooks) follow(ctx context.Context) {
	want := orders(w.deps.Directory.Snapshot(), w.deps.Control.State())
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, r := range w.running {
		o, wanted := want[name]
		same := wanted && o.text == r.order.text && o.begin == r.order.begin
		select {
		case <-r.done: // of itself: it failed, and starts again
			delete(w.running, name)
			w.metrics.forget(name)
		default:
			if !same {
				r.stop()
			}
		}
	}
	for name, o := range want {
		if w.running[name] == nil {
			w.running[name] = w.start(ctx, o)
		}
	}
	w.metrics.paused.Reset()
	for _, hook := range w.deps.Directory.Snapshot().Webhooks() {
		w.metrics.pause(hook.Name, w.deps.Control.State().Webhook(hook.Name).Paused())
	}
}

// orders are the webhooks to be posted to now.
func orders(s *directory.Snapshot, c *control.State) map[string]order {
	want := map[string]order{}
	for _, hook := range s.Webhooks() {
		standing := c.Webhook(hook.Name)
		if standing.Paused() {
			continue
		}
		doc, _ := s.Document(directory.Ref{Kind: directory.KindWebhook, Name: hook.Name})
		want[hook.Name] = order{hook: hook, text: doc.YAML, begin: begins(hook, standing)}
	}
	return want
}

// beginning is where a webhook began: its group has a position of its own
// since then.
type beginning struct {
	group string
	since time.Time // events from then on
}

// begins is a webhook's newest beginning: when it came to be, or was rewound.
func begins(hook *directory.Webhook, standing control.Webhook) beginning {
	if standing.RewoundAt.After(hook.Since) {
		return beginning{schemas.WebhookGroup(hook.Name, standing.RewoundAt), standing.Since}
	}
	return beginning{schemas.WebhookGroup(hook.Name, hook.Since), hook.Since}
}

// Group is the consumer group in which a webhook is at the moment.
func Group(hook *directory.Webhook, standing control.Webhook) string {
	return begins(hook, standing).group
}

func (w *Webhooks) start(ctx context.Context, o order) *running {
	ctx, stop := context.WithCancel(ctx)
	r := &running{order: o, stop: stop, done: make(chan struct{})}
	log := w.deps.Log.With("webhook", o.hook.Name)
	go func() {
		defer close(r.done)
		defer stop()
		s, err := newSubscriber(w, log, o)
		if err == nil {
			err = s.run(ctx)
		}
		if err != nil && ctx.Err() == nil {
			log.Error("webhook ended, starting again", "err", err)
			select {
			case <-time.After(lookEvery):
			case <-ctx.Done():
			}
		}
	}()
	return r
}

func (w *Webhooks) stopAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.running {
		r.stop()
	}
	for _, r := range w.running {
		<-r.done
	}
}
